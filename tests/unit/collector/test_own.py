from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.collector import pipeline
from atalaia.collector.formats.format import Format
from atalaia.collector.formats.prefix import PrefixError, compile_prefix
from atalaia.collector.formats.redact import Redacted, WithoutPasswords
from atalaia.collector.formats.settings import format_of
from atalaia.collector.own import environment_plan
from atalaia.collector.plan import Job
from atalaia.collector.promtail.load import load_jobs
from atalaia.environment.connection import Connection
from atalaia.environment.errors import ConfigurationError
from atalaia.environment.load import Environment, parse
from atalaia.environment.state import State
from atalaia.environment.yamlfile import Reader

FILE = Path("/x/atalaia.toml")


@pytest.mark.parametrize(
    ("text", "longest", "ahead"),
    [
        ("", 256 << 10, 24 * 3600),
        ('[logs.limits]\nline_size = "1KiB"\nclock_ahead = "10m"', 1024, 600),
        ('[logs.limits]\nline_size = "4MiB"\n[collection]\nmax_line_size = "1MiB"', 1 << 20, 24 * 3600),
    ],
)
def test_what_the_store_would_refuse_is_not_sent(text: str, longest: int, ahead: int) -> None:
    settings, lines = parse(text, FILE)
    plan = environment_plan(
        Environment(FILE, settings, State(FILE.parent / ".atalaia"), lines), {}, Connection("http://x")
    )
    assert (plan.max_line_size, plan.clock_ahead) == (longest, ahead * 10**9)


def jobs_of(text: str) -> dict[str, Job]:
    settings, lines = parse(text, FILE)
    environment = Environment(FILE, settings, State(FILE.parent / ".atalaia"), lines)
    plan = environment_plan(environment, {"a": Path("/srv/a")}, Connection("http://x"))
    return {job.name: job for job in plan.jobs}


def test_servers_elsewhere_are_collected() -> None:
    jobs = jobs_of(
        '[collection]\ntargets = []\n[[collection.postgres]]\nname = "main"\nlogs = ["logs/*.log", "/var/x"]\n'
        'log_line_prefix = "%u "\n[[collection.postgres]]\nname = "b"\nlogs = "x"\nformat = "csvlog"\n'
    )
    assert list(jobs) == ["a.jsonlog", "a.stderr", "main of postgres", "b of postgres", "atalaia"]
    targets = jobs["main of postgres"].targets
    assert [t.pattern for t in targets] == ["/x/logs/*.log", "/var/x"]
    assert [t.labels for t in targets] == [{"job": "postgres", "server": "main"}] * 2
    taken = pipeline.run(jobs["main of postgres"], b"ann LOG:  x\n", 7, {}, pipeline.ALL).entries
    assert (taken.lines.to_pylist(), taken.metadata["user"].to_pylist()) == (["LOG:  x"], ["ann"])


@pytest.mark.parametrize(
    ("text", "own", "elsewhere"),
    [
        ("", "SELECT 1, password '?'", "SELECT 1, password '?'"),
        ('redact = "literals"\n', "SELECT ?, password ?", "SELECT ?, password ?"),
    ],
)
def test_what_leaves_the_machine(text: str, own: str, elsewhere: str) -> None:
    jobs = jobs_of(f'[collection]\n{text}[[collection.postgres]]\nname = "main"\nlogs = "x"\n')
    for job, wanted in (("a.stderr", own), ("main of postgres", elsewhere)):
        block = b"LOG:  statement: SELECT 1, password 'x'\n"
        (line,) = pipeline.run(jobs[job], block, 7, {}, pipeline.ALL).entries.lines.to_pylist()
        assert line == f"LOG:  statement: {wanted}".replace("'?'", "?")


def test_a_server_may_be_redacted_alone() -> None:
    jobs = jobs_of('[[collection.postgres]]\nname = "main"\nlogs = "x"\nredact = "literals"\n')
    assert isinstance(jobs["main of postgres"].format, Redacted)
    assert isinstance(jobs["a.jsonlog"].format, WithoutPasswords)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[collection]\nredact = "all"', "2 collection.redact = 'all'"),
        ('[[collection.postgres]]\nname = "a b"\nlogs = "x"', "2 collection.postgres.name = 'a b'"),
        ('[[collection.postgres]]\nname = "a"\nlogs = []', "3 collection.postgres.logs = []"),
        ('[[collection.postgres]]\nname = "a"\nlogs = ["x", ""]', "3 collection.postgres.logs = ['x', '']"),
        (
            '[[collection.postgres]]\nname = "a"\nlogs = "x"\nlog_line_prefix = "%z"',
            "4 collection.postgres.log_line_pre",
        ),
        ('[[collection.postgres]]\nname = "a"\nlogs = "x"\ntimezone = "No/Where"', "4 collection.postgres.timezone"),
        ('[[collection.postgres]]\nname = "a"\nlogs = "x"\nformat = "xml"', "4 collection.postgres.format = 'xml'"),
        (
            '[[collection.postgres]]\nname = "a"\nlogs = "x"\n[[collection.postgres]]\nname = "a"\nlogs = "y"',
            "1 collection.p",
        ),
        ('[[collection.postgres]]\nname = "a"\nlogs = "x"\nfromat = ""', "4 unknown key 'collection.postgres.fromat'"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse(text, FILE)
    assert f"{caught.value.problems[0].line} {caught.value.problems[0].message}".startswith(told)


@given(st.lists(st.sampled_from([*"aubdhrLpPtmnisecvxqQlzyZ", "%", "-5", "10", " ", "["]), max_size=5).map("".join))
def test_settings_and_collector_agree_on_prefixes(escapes: str) -> None:
    prefix = f"%{escapes}"
    try:
        compile_prefix(prefix)
        known = True
    except PrefixError:
        known = False
    text = f'[[collection.postgres]]\nname = "a"\nlogs = "x"\nlog_line_prefix = "{prefix}"'
    if known:
        parse(text, FILE)
    else:
        with pytest.raises(ConfigurationError):
            parse(text, FILE)


PROMTAIL = """\
clients: [{url: http://127.0.0.1:1/loki/api/v1/push}]
scrape_configs:
  - job_name: postgres
    format: postgres
    redact: literals
    static_configs: [{labels: {__path__: /var/log/p*}}]
    pipeline_stages: [{labels: {severity: null}}]
"""


def test_a_promtail_yaml_with_a_format(tmp_path: Path) -> None:
    path = tmp_path / "promtail.yaml"
    path.write_text(PROMTAIL)
    (job,) = load_jobs(path, tmp_path / "positions")
    taken = pipeline.run(job, b"2026-03-01 12:00:00.250 UTC [7] LOG:  statement: SELECT 1\n", 7, {}, pipeline.ALL)
    assert taken.entries.lines.to_pylist() == ["LOG:  statement: SELECT ?"]
    path.write_text(PROMTAIL.replace("static_configs: [{labels: {__path__: /var/log/p*}}]", "journal: {}"))
    with pytest.raises(ConfigurationError, match="4: format is for files"):
        load_jobs(path, tmp_path / "positions")


def promtail(tmp_path: Path, keys: str) -> tuple[str | Format, list[str]]:
    path = tmp_path / "promtail.yaml"
    reader = Reader(path)
    entry = reader.mapping(reader.load(keys), "scrape_configs")
    return format_of(reader, entry, "j"), [f"{problem.line} {problem.message}" for problem in reader.problems]


def test_a_format_in_promtail_yaml(tmp_path: Path) -> None:
    assert promtail(tmp_path, "job_name: j") == ("plain", [])
    form, problems = promtail(tmp_path, "format: stderr\nlog_line_prefix: '%u '\nredact: literals")
    assert isinstance(form, Redacted)
    assert problems == []
    assert promtail(tmp_path, "redact: literals") == ("plain", ["1 redact is for PostgreSQL's logs"])
    for keys, told in [
        ("format: xml", "1 job 'j': 'xml' is no format: auto"),
        ("format: own", "1 job 'j': 'own' is no format: auto"),
        ("format: postgres\nredact: all", "1 job 'j': redact 'all' is neither"),
        ("format: postgres\nlog_line_prefix: '%z'", "1 job 'j': log_line_prefix '%z'"),
        ("format: postgres\ntimezone: Nowhere", "1 job 'j': timezone 'Nowhere'"),
    ]:
        (problem,) = promtail(tmp_path, keys)[1]
        assert problem.startswith(told)
