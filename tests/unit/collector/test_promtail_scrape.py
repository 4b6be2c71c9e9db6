from __future__ import annotations

import copy
import json
import os
import socket
from pathlib import Path
from textwrap import dedent

import pytest

from atalaia.collector.plan import Target
from atalaia.collector.promtail import load as promtail
from atalaia.collector.promtail import targets
from atalaia.collector.promtail.given import Given
from atalaia.collector.promtail.load import Loaded
from atalaia.collector.promtail.refused import REFUSED
from atalaia.environment.errors import ConfigurationError

HEAD = "clients: [{url: http://h/loki/api/v1/push}]\nscrape_configs:\n"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch):
    def do(jobs: str, given: Given | None = None) -> Loaded:
        monkeypatch.setattr(promtail, "read_text", lambda path: HEAD + dedent(jobs))
        return promtail.read(Path("/etc/promtail.yaml"), given=given)

    return do


def found(loaded: Loaded) -> list[tuple[str, dict[str, str], str | None]]:
    return [(t.pattern, dict(t.labels), t.exclude) for job in loaded.plan.jobs for t in job.targets]


def test_targets_are_relabelled_before_their_paths_are_read(read) -> None:
    loaded = read(
        """\
        - job_name: web
          relabel_configs:
          - {source_labels: [__address__], regex: '(.*):\\d+', target_label: host}
          - {source_labels: [host], regex: bad, action: drop}
          - {source_labels: [host], target_label: __path__, replacement: /logs/$1/*.log}
          - {source_labels: [__meta_x], target_label: x}
          - {target_label: __tmp_y, replacement: gone}
          static_configs:
          - targets: ["a:80", "b:80", "bad:80", "a:81"]
            labels: {job: web, __meta_x: "7", __path_exclude__: "/logs/*/debug.log"}
        """
    )
    labels = {"job": "web", "x": "7"}
    # a:80 and a:81 are one target: the same files with the same labels.
    assert found(loaded) == [
        ("/logs/a/*.log", labels | {"host": "a"}, "/logs/*/debug.log"),
        ("/logs/b/*.log", labels | {"host": "b"}, "/logs/*/debug.log"),
    ]
    assert [(r.line, r.message) for r in loaded.remarks] == [
        (11, "job 'web': a static_config collects nothing: its labels are dropped by relabel_configs")
    ]


def test_an_address_that_nobody_wrote_is_localhost_and_labels_are_the_files_alone(read) -> None:
    loaded = read(
        """\
        - job_name: one
          relabel_configs: [{source_labels: [__address__], target_label: at}]
          static_configs: [{labels: {__path__: /a}}]
        - job_name: two
          static_configs: [{targets: [x, y], labels: {__path__: /b, empty: ""}}]
        """
    )
    assert found(loaded) == [("/a", {"at": "localhost"}, None), ("/b", {}, None)]


def test_a_path_is_made_absolute_as_promtails_filename_label_is(read, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    loaded = read("- static_configs: [{labels: {__path__: logs/*.log, __path_exclude__: logs/x.log}}]")
    assert found(loaded) == [(f"{tmp_path}/logs/*.log", {}, f"{tmp_path}/logs/x.log")]


def test_targets_of_other_hosts_are_left_out(read, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = "- static_configs: [{labels: {__path__: /a, __host__: here}}, {labels: {__path__: /b}}]"
    monkeypatch.setenv("HOSTNAME", "here")
    assert [pattern for pattern, _, _ in found(read(jobs))] == ["/a", "/b"]
    monkeypatch.delenv("HOSTNAME")
    loaded = read(jobs)
    assert [pattern for pattern, _, _ in found(loaded)] == ["/b"]
    assert f"its __host__ 'here' is not this host, {socket.gethostname()!r}" in loaded.remarks[0].message


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_is_not_built_is_refused_with_what_to_do_instead(read, kind: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(f"- job_name: j\n  {kind}: []")
    ((problem,),) = [caught.value.problems]
    assert (problem.line, problem.message) == (4, f"{kind} is not built")
    assert len(problem.remedy) > 40


@pytest.mark.parametrize(
    ("jobs", "expected"),
    [
        ("- job_name: j", [(3, "job 'j' has no static_configs")]),
        (
            "- {job_name: j, static_configs: [{labels: {__path__: /a}}]}\n"
            "- job_name: j\n  static_configs: [{labels: {__path__: /a}}]",
            [(4, "the job 'j' stands twice")],
        ),
        ("- static_configs: [{labels: {a: b}}]", [(3, "job 'job 0' has a static_config without __path__")]),
        ("- static_config: []", [(3, "job 'job 0' has no static_configs"), (3, "scrape_configs: 'static_config'")]),
        ("- static_configs: [{label: {a: b}}]", [(3, "static_configs: 'label' is not known"), (3, "job 'job 0' has")]),
        ("- file_sd_configs: [{}]", [(3, "file_sd_configs: it names no files")]),
        ("- file_sd_configs: [{files: [a.txt]}]", [(3, "file_sd_configs: 'a.txt' names no file of targets")]),
        ("- file_sd_configs: [{files: ['*/a.json']}]", [(3, "file_sd_configs: '*/a.json' names no file of targets")]),
        ("- file_sd_configs: [{files: [a.json], refresh_interval: x}]", [(3, "refresh_interval: 'x' is not a dur")]),
        ("- relabel_configs: [{action: x}]\n  static_configs: [{labels: {__path__: /a}}]",
         [(3, "relabel_configs: the action 'x'")]),
    ],
)  # fmt: skip
def test_each_refusal_names_its_line(read, jobs: str, expected: list[tuple[int, str]]) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(jobs)
    problems = sorted((p.line, p.message) for p in caught.value.problems)
    assert len(problems) == len(expected), problems
    for (line, message), (wanted_line, wanted) in zip(problems, sorted(expected), strict=True):
        assert (line, message[: len(wanted)]) == (wanted_line, wanted)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(targets, "_LOOK", 0.0)


@pytest.mark.usefixtures("at_once")
def test_files_of_targets_are_read_again_when_they_change(read, tmp_path: Path, caplog) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.json"
    first.write_text("- targets: [one, two]\n  labels: {__path__: /a, env: x}\n")
    jobs = f"""\
    - job_name: j
      relabel_configs:
      - {{source_labels: [__address__], target_label: at}}
      - {{source_labels: [__meta_filepath], regex: '.*/(.*)', target_label: from}}
      static_configs: [{{labels: {{__path__: /fixed}}}}]
      file_sd_configs: [{{files: ['{tmp_path}/*.yaml', '{tmp_path}/*.json'], refresh_interval: 1m}}]
    """
    loaded = read(jobs)
    (job,) = loaded.plan.jobs

    def now() -> list[str]:
        return [f"{t.pattern} {t.labels.get('from', '-')} {t.labels['at']}" for t in job.targets]

    fixed = "/fixed - localhost"
    assert now() == [fixed, "/a a.yaml one", "/a a.yaml two"]
    assert job.targets[1] == Target("/a", {"env": "x", "at": "one", "from": "a.yaml"})
    second.write_text(json.dumps([{"targets": ["three"], "labels": {"__path__": "/b"}}]))
    assert now() == [fixed, "/a a.yaml one", "/a a.yaml two", "/b b.json three"]
    first.write_text("- targets: [ONE]\n  labels: {__path__: /a}\n")
    assert now() == [fixed, "/a a.yaml ONE", "/b b.json three"]
    # What cannot be read keeps what it had, and is told once.
    first.write_text("- targets: [1\n")
    second.write_text("[{'targets'")
    assert now() == now() == [fixed, "/a a.yaml ONE", "/b b.json three"]
    assert [record.message.split()[0] for record in caplog.records] == ["event=targets_unreadable"] * 2
    first.unlink()
    second.write_text("[]")
    assert now() == [fixed]
    assert list(copy.deepcopy(job.targets)) == list(job.targets)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.yaml", "- target: [x]\n", "targets: 'target' is not known"),
        ("a.yaml", "targets: [x]\n", "is {'targets': ['x']}, not a list"),
        ("a.json", "{", "it is not JSON"),
        ("a.json", '[{"labels": {"a-b": "x"}}]', "'a-b' is not a label name"),
    ],
)
def test_a_wrong_file_of_targets_is_told_at_the_start_and_does_not_end_it(
    read, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    loaded = read(f"- file_sd_configs: [{{files: ['{tmp_path}/*.yaml', '{tmp_path}/*.json']}}]")
    assert found(loaded) == []
    ((remark,),) = [loaded.remarks]
    assert (remark.line, message in remark.message) == (3, True), remark.message


def test_json_may_be_indented_with_tabs(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[\n\t{"targets": ["x"], "labels": {"n": 5}}\n]')
    (group,) = targets.read_groups(path)
    assert (group.addresses, group.labels) == (("x",), {"n": "5", "__meta_filepath": str(path)})


def test_standard_input_goes_through_the_first_job(read) -> None:
    jobs = """\
    - job_name: one
      static_configs: [{labels: {job: a, __path__: /x}}, {labels: {b: c}}]
      pipeline_stages: [{static_labels: {d: e}}]
    - job_name: two
      static_configs: [{labels: {__path__: /y}}]
    """
    loaded = read(jobs, Given(stdin=True))
    (job,) = loaded.plan.jobs
    assert (job.name, job.format, len(job.stages), job.filename) == ("one stdin", "spool", 1, False)
    assert loaded.plan.stdin == {"job": "a", "b": "c"}
    assert [r.line for r in loaded.remarks] == [6]
    assert read("", Given(stdin=True)).plan.stdin == {"job": "stdin", "hostname": os.uname().nodename}


def test_what_listens_reads_its_spool_beside_the_positions(read) -> None:
    loaded = read(
        """        - job_name: both
          pipeline_stages: [{drop: {expression: x}}]
          relabel_configs: [{source_labels: [__syslog_message_severity], target_label: level}]
          syslog: {listen_address: "127.0.0.1:0", labels: {job: s}}
          static_configs: [{labels: {__path__: /a}}]
        - job_name: pushed
          loki_push_api: {server: {http_listen_port: 0}}
        """
    )
    files, syslog, pushed = loaded.plan.jobs
    assert (files.name, files.format, files.listen) == ("both", "plain", None)
    assert (syslog.name, syslog.format) == ("both syslog", "spool")
    assert syslog.relabel is not None
    assert syslog.relabel({"__syslog_message_severity": "error"}) == {
        "__syslog_message_severity": "error",
        "level": "error",
    }
    assert (pushed.name, pushed.relabel) == ("pushed", None)
    place = f"{loaded.plan.positions}.spool"
    (pattern,) = [target.pattern for target in syslog.targets]
    assert pattern.startswith(f"{place}/both_syslog-")
    assert [target.pattern for target in pushed.targets] == [f"{place}/pushed/*.jsonl"]
    assert len(files.stages) == len(syslog.stages) == 1
