from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from atalaia.collector.plan import Plan
from atalaia.collector.promtail import load as promtail
from atalaia.collector.stages.json import Json
from atalaia.collector.stages.labels import Labels, StaticLabels
from atalaia.collector.stages.regex import Regex
from atalaia.collector.stages.timestamp import Timestamp
from atalaia.environment.errors import ConfigurationError

SEED = """
server:
  http_listen_port: 9080
  grpc_listen_port: 0
positions:
  filename: /tmp/positions.yaml
clients:
  - url: http://loki:3100/loki/api/v1/push
scrape_configs:
  - job_name: system
    static_configs:
      - targets:
          - localhost
        labels:
          job: varlogs
          __path__: /var/log/*log
"""


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch):
    def do(text: str) -> Plan:
        monkeypatch.setattr(promtail, "read_text", lambda path: dedent(text))
        return promtail.load(Path("/etc/promtail.yaml"))

    return do


def problems(load, text: str) -> list[tuple[int, str]]:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    assert all(p.remedy and p.file == Path("/etc/promtail.yaml") for p in caught.value.problems)
    return [(p.line, p.message) for p in caught.value.problems]


def test_the_seeds_file_is_read(load) -> None:
    plan = load(SEED)
    assert plan.outputs[0].url == "http://loki:3100/loki/api/v1/push"
    assert plan.outputs[0].base == "http://loki:3100"
    assert plan.positions == Path("/tmp/positions.yaml.atalaia")
    assert plan.max_line_size == 256 << 10
    (job,) = plan.jobs
    assert (job.name, job.format, job.stages) == ("system", "plain", ())
    (target,) = job.targets
    assert (target.pattern, dict(target.labels), target.exclude) == ("/var/log/*log", {"job": "varlogs"}, None)


def test_everything_that_is_accepted(load) -> None:
    plan = load(
        r"""
        clients:
          - url: https://user.example/loki/api/v1/push
            tenant_id: team
            external_labels: {host: box, version: 1.10, octal: 010, yes: yes, empty: "", when: 12:30:45}
            headers: {X-A: b}
            basic_auth: {username: me, password: secret}
            timeout: 1500ms
            batchwait: 1s
            batchsize: 1048576
            backoff_config: {min_period: 100ms, max_period: 1m, max_retries: 3}
        limits_config: {max_line_size: 64KiB, max_line_size_truncate: true}
        scrape_configs:
          - job_name: &name app
            pipeline_stages:
              - regex: {expression: '^(?P<level>\w+) (?P<body>.*)$'}
              - json: {source: body, expressions: {ts: time, deep: a.b}, drop_malformed: false}
              - timestamp:
                  {source: ts, format: RFC3339, location: UTC, fallback_formats: [Unix], action_on_failure: skip}
              - labels: {level: , other: deep}
              - static_labels: {env: prod, nothing: ""}
            static_configs:
              - labels: {__path__: /a/*.log, __path_exclude__: /a/b.log, __meta: x, team: 7, job: mine}
              - labels: {__path__: /b/*.log}
          - job_name: two
            static_configs:
              - labels: {__path__: /c, job: *name}
        """
    )
    output = plan.outputs[0]
    assert output.tenant == "team"
    assert (output.timeout, output.min_backoff, output.max_backoff) == (1.5, 0.1, 60.0)
    # Values are taken as they are written, as Go's YAML does for texts.
    expected = {"host": "box", "version": "1.10", "octal": "010", "True": "yes", "when": "12:30:45"}
    assert dict(output.external_labels) == expected
    assert dict(output.headers) == {"X-A": "b"}
    assert plan.max_line_size == 64 << 10
    first, second = plan.jobs
    assert [type(stage) for stage in first.stages] == [Regex, Json, Timestamp, Labels, StaticLabels]
    assert first.stages[4].values == {"env": "prod"}  # type: ignore[attr-defined]
    assert dict(first.targets[0].labels) == {"job": "mine", "team": "7"}
    assert first.targets[0].exclude == "/a/b.log"
    assert dict(first.targets[1].labels) == {}
    assert dict(second.targets[0].labels) == {"job": "app"}


def test_client_in_the_singular_and_other_spellings(load) -> None:
    text = SEED.replace("clients:\n  - url", "client:\n    url")
    assert load(text).outputs[0].base == "http://loki:3100"
    assert load(SEED.replace("loki/api/v1/push", "api/prom/push/")).outputs[0].base == "http://loki:3100"


HEAD = "clients: [{url: http://h/loki/api/v1/push}]\n"
JOB = "scrape_configs:\n- static_configs:\n  - labels: {__path__: /a}\n"
STAGES = HEAD + JOB + "  pipeline_stages:\n"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: [1", [(1, "not YAML")]),
        (HEAD + JOB + "\t x: 1", [(5, "not YAML")]),
        (HEAD + JOB + "x: !!python/name:os.system ''", [(5, "not YAML")]),
        (HEAD + JOB + "x: 2024-13-45", [(0, "a value cannot be read")]),
        (HEAD + "x: &a [*a]", [(0, "a value cannot be read")]),
        ("- 1", [(0, "promtail.yaml has no clients"), (1, "promtail.yaml is [1], not a mapping")]),
        ("", [(0, "promtail.yaml has no clients")]),
        (HEAD, [(0, "no scrape_configs")]),
        (JOB, [(0, "promtail.yaml has no clients")]),
        (
            HEAD + JOB + "limits_config:\n  max_line_size: big\n",
            [(6, "limits_config.max_line_size: 'big' is not a size")],
        ),
        (HEAD + JOB + "positions: here\n", [(5, "positions is 'here', not a mapping")]),
        (HEAD + "scrape_configs: 5\n", [(2, "scrape_configs is 5, not a list")]),
        (HEAD + JOB + "- job_name: j\n  kafka: {}\n", [(6, "kafka is not built")]),
        (HEAD + JOB + "- job_name: j\n", [(5, "job 'j' has no static_configs")]),
        (
            HEAD + JOB + "- job_name: j\n  static_configs:\n  - targets: [a]\n",
            [(7, "job 'j' has a static_config without __path__")],
        ),
        (HEAD + JOB.replace("/a}", "/a, a-b: c}"), [(4, "labels: 'a-b' is not a label name")]),
        (HEAD + JOB.replace("/a}", "/a, a: [c]}"), [(4, "labels.a is not a single value")]),
        (STAGES + "  - multilines: {}\n", [(6, "pipeline_stages: 'multilines' is not known")]),
        (STAGES + "  - regex: {expression: x}\n    json: {}\n", [(6, "a stage has one name, this one has 2")]),
        (STAGES + "  - regex:\n      expression: '('\n", [(6, "the stage regex: the expression is not RE2")]),
        (STAGES + "  - regex:\n      source: x\n", [(6, "the stage regex: it needs 'expression'")]),
        (STAGES + "  - regex:\n      expression: '(?P<a>x)'\n      sauce: x\n", [(8, "regex: 'sauce' is not known")]),
        (STAGES + "  - json:\n      expressions:\n        a: 'b['\n", [(6, "the stage json: could not compile JMES")]),
        (STAGES + "  - json: {expressions: {a: b}, drop_malformed: 1}\n", [(6, "json.drop_malformed is 1, neither")]),
        (STAGES + "  - timestamp: {source: a}\n", [(6, "the stage timestamp: it needs 'format'")]),
        (
            STAGES + "  - timestamp: {source: a, format: nonsense}\n",
            [(6, "the stage timestamp: 'nonsense' has no part")],
        ),
        (
            STAGES + "  - timestamp: {source: a, format: Unix, location: Mars}\n",
            [(6, "the stage timestamp: unknown location")],
        ),
        (STAGES + "  - labels:\n      a b: c\n", [(7, "labels: 'a b' is not a label name")]),
        (STAGES + "  - labels: [a]\n", [(6, "labels is ['a'], not a mapping")]),
        (
            STAGES + "  - just text\n",
            [(6, "pipeline_stages is 'just text', not a mapping"), (6, "a stage has one name")],
        ),
    ],
)
def test_each_refusal_names_its_line(load, text: str, expected: list[tuple[int, str]]) -> None:
    found = problems(load, text)
    assert len(found) == len(expected), found
    for (line, message), (wanted_line, wanted) in zip(found, expected, strict=True):
        assert (line, message[: len(wanted)]) == (wanted_line, wanted)


def test_all_problems_come_at_once_in_order(load) -> None:
    text = """\
        clients:
          - url: http://a
            oauth2: {}
            timeout: x
        scrape_configs:
          - job_name: one
            syslog: {}
            pipeline_stages:
              - pack: {a: b}
              - regex: {expression: "("}
              - timestamp: {source: a, format: b}
            static_configs:
              - labels: {bad-name: x}
        limits_config: {max_streams: x}
    """
    assert [line for line, _ in problems(load, text)] == [3, 3, 4, 7, 9, 10, 11, 13, 13, 14]
