"""`atalaia query` against a real server: what it prints, read back by each form's own reader."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest
from tests.integration.api_support import NOW, S, Served, Tenant, ended, served, tenant

from atalaia.cli import main
from atalaia.client.filerows import rows_of

__all__ = ["served", "tenant"]
BETWEEN = ("--from", "2023-11-14T22:00:00Z", "--to", "2023-11-14T23:00:00Z")
NASTY = ['a "quoted", comma', "two\nlines", "tab\tand \x1b[31mcolour", "ação ✓", "", "  blanks  ", "\x07bell"]


class Done(NamedTuple):
    code: int
    out: str
    err: str


Query = Callable[..., Done]


@pytest.fixture
def query(
    served: Served, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Query]:
    """Runs the command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    for name in ("NO_COLOR", "FORCE_COLOR", *(name for name in os.environ if name.startswith("LOKI_"))):
        monkeypatch.delenv(name, raising=False)
    signals = signal.getsignal(signal.SIGINT)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["atalaia", "query", *arguments, "--url", served.url, "--tenant", tenant.name])
        with pytest.raises(SystemExit) as ended:
            main.run()
        shown = capsys.readouterr()
        assert "internal error" not in shown.err
        return Done(int(ended.value.code or 0), shown.out, shown.err)

    yield run
    assert signal.getsignal(signal.SIGINT) is signals


def filled(tenant: Tenant) -> None:
    tenant.push({"job": "pg", "server": "a"}, [(NOW + i, line, {"pid": str(i)}) for i, line in enumerate(NASTY)])
    tenant.push({"job": "pg", "server": "b", "severity": "ERROR"}, [(NOW + S, "ERROR:  broken")])


def test_for_people(query: Query, tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant.push({"job": "pg", "server": "a"}, [(NOW, "LOG:  first"), (NOW + 2 * S, "WARNING:  third")])
    tenant.push({"job": "pg", "server": "b", "severity": "ERROR"}, [(NOW + S, "second \x1b[2J")])
    done = query('{job="pg"}', *BETWEEN, "--forward")
    assert done == (
        0,
        '2023-11-14 22:13:20.000 {server="a"} LOG:  first\n'
        '2023-11-14 22:13:21.000 {server="b", severity="ERROR"} second \x1b[2J\n'
        '2023-11-14 22:13:22.000 {server="a"} WARNING:  third\n',
        'Common labels: {job="pg"}\n',
    )
    newest = query('{job="pg"}', *BETWEEN, "--limit", "2", "--no-labels", "--quiet")
    assert [line[24:] for line in newest.out.splitlines()] == ["WARNING:  third", "second \x1b[2J"]
    assert newest.err == ""
    assert query('{job="pg"}', *BETWEEN, "-o", "raw", "--forward").out.splitlines()[0] == "LOG:  first"
    one = query('{job="pg"}', *BETWEEN, "--include-label", "server", "--limit", "1", "--forward")
    assert one == (0, "2023-11-14 22:13:20.000 LOG:  first\n", 'Common labels: {server="a"}\n')
    without = query('{job="pg"}', *BETWEEN, "--exclude-label", "job", "--exclude-label", "severity", "--forward")
    assert without.out.splitlines()[1].startswith('2023-11-14 22:13:21.000 {server="b"} second')
    assert query('{job="nothing"}') == (0, "", "no lines\n")
    monkeypatch.setenv("FORCE_COLOR", "1")
    seen = query('{job="pg"}', *BETWEEN, "--forward", "--no-labels").out.splitlines()
    assert seen[0] == "\x1b[2m2023-11-14 22:13:20.000\x1b[0m LOG:  first"
    # Colours of the label, of a word of the line; what would clear the screen is shown instead.
    assert seen[1].endswith("\x1b[31msecond ␛[2J\x1b[0m")
    assert seen[2].endswith("\x1b[33mWARNING:  third\x1b[0m")
    monkeypatch.setenv("TZ", "Asia/Kathmandu")
    time.tzset()
    try:
        local = query('{job="pg"}', *BETWEEN, "--timezone", "local", "-o", "jsonl", "--limit", "1", "--forward")
        assert json.loads(local.out)["timestamp"] == "2023-11-15T03:58:20.000000000+05:45"
        assert "2023-11-15 03:58:20.000" in query('{job="pg"}', *BETWEEN, "--timezone", "local").out
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()


def test_common_labels_become_fewer(query: Query, tenant: Tenant) -> None:
    """A thousand lines at a time: what a later one does not have is told again, and shown from there on."""
    tenant.push({"job": "pg", "server": "a"}, [(NOW + i, "x") for i in range(1500)])
    tenant.push({"job": "pg", "server": "b"}, [(NOW + 1500, "y")])
    done = query('{job="pg"}', *BETWEEN, "--forward", "--limit", "0")
    assert done.err.splitlines()[:2] == ['Common labels: {job="pg", server="a"}', 'Common labels: {job="pg"}']
    lines = done.out.splitlines()
    assert len(lines) == 1501
    assert lines[0] == "2023-11-14 22:13:20.000 x"
    assert lines[-1] == '2023-11-14 22:13:20.000 {server="b"} y'


def test_parsed_labels_are_shown_metadata_on_request(query: Query, tenant: Tenant) -> None:
    tenant.push({"job": "pg"}, [(NOW, "n=7", {"pid": "1"})])
    assert query('{job="pg"} | logfmt', *BETWEEN).err == 'Common labels: {job="pg", n="7"}\n'
    assert query('{job="pg"} | logfmt', *BETWEEN, "--include-label", "pid").err == 'Common labels: {pid="1"}\n'


def test_jsonl_goes_in_again(query: Query, tenant: Tenant, tmp_path: Path) -> None:
    filled(tenant)
    done = query('{job="pg"}', *BETWEEN, "--forward", "--output", "jsonl")
    found = [json.loads(line) for line in done.out.splitlines()]
    assert [one["line"] for one in found] == [*NASTY, "ERROR:  broken"]
    assert found[1] == {
        "labels": {"job": "pg", "server": "a"},
        "line": "two\nlines",
        "timestamp": "2023-11-14T22:13:20.000000001Z",
        "ts": NOW + 1,
        "metadata": {"pid": "1"},
    }
    assert query('{job="pg"}', *BETWEEN, "--forward", "--json").out == done.out
    (tmp_path / "x.jsonl").write_text(done.out)
    (table,) = rows_of(tmp_path / "x.jsonl")
    assert table.column("line").to_pylist() == [*NASTY, "ERROR:  broken"]
    assert table.column("ts").to_pylist()[1] == NOW + 1


def test_csv(query: Query, tenant: Tenant, tmp_path: Path) -> None:
    filled(tenant)
    query('{job="pg"}', *BETWEEN, "--forward", "-o", "csv", "--out", "x.csv")
    raw = (tmp_path / "x.csv").read_bytes()
    assert raw.count(b"\r\n") == len(NASTY) + 2
    rows = list(csv.reader(io.StringIO(raw.decode(), newline="")))
    assert rows[0] == ["timestamp", "labels", "line", "metadata"]
    assert [row[2] for row in rows[1:]] == [*NASTY, "ERROR:  broken"]
    assert [json.loads(row[3]) for row in rows[1:3]] == [{"pid": "0"}, {"pid": "1"}]
    assert json.loads(rows[-1][1]) == {"job": "pg", "server": "b", "severity": "ERROR"}
    named = query('{job="pg"}', *BETWEEN, "-o", "csv", "--include-label", "severity", "--include-label", "pid")
    columns = list(csv.reader(io.StringIO(named.out, newline="")))
    assert columns[0] == ["timestamp", "severity", "pid", "line"]
    assert columns[1] == ["2023-11-14T22:13:21.000000000Z", "ERROR", "", "ERROR:  broken"]
    # The columns are there without any line.
    assert query('{job="none"}', "-o", "csv").out == "timestamp,labels,line,metadata\r\n"


def test_parquet_goes_in_again(query: Query, tenant: Tenant, tmp_path: Path) -> None:
    filled(tenant)
    done = query('{job="pg"}', *BETWEEN, "--forward", "--limit", "0", "-o", "parquet", "--out", "x.parquet")
    assert re.fullmatch(r"8 lines, \d+ B in [\d.]+ s \(.*/s\)\n", done.err)
    table = pq.read_table(tmp_path / "x.parquet")
    assert table.column("line").to_pylist() == [*NASTY, "ERROR:  broken"]
    assert table.column("timestamp").cast("int64").to_pylist() == table.column("ts").to_pylist()
    assert table.column("labels").to_pylist()[-1] == [("job", "pg"), ("server", "b"), ("severity", "ERROR")]
    (again,) = rows_of(tmp_path / "x.parquet")
    assert again.column("ts").to_pylist() == [*(NOW + i for i in range(len(NASTY))), NOW + S]
    assert again.column("metadata").to_pylist()[1] == [("pid", "1")]


def test_table_and_names(query: Query, tenant: Tenant) -> None:
    tenant.push({"job": "pg", "server": "a"}, [(NOW, "x")])
    tenant.push({"job": "pg", "server": "bb"}, [(NOW + S, "y")])
    assert query('{job="pg"}', *BETWEEN, "-o", "table").out == (
        "TIME                     JOB  SERVER  LINE\n"
        "2023-11-14 22:13:21.000  pg   bb      y\n"
        "2023-11-14 22:13:20.000  pg   a       x\n"
    )
    assert query("--labels", *BETWEEN).out == "job\nserver\n"
    assert query("--labels", "server", *BETWEEN).out == "a\nbb\n"
    assert query("--series", '{server="a"}', *BETWEEN).out == '{job="pg", server="a"}\n'
    assert json.loads(query("--series", '{server="a"}', *BETWEEN, "--json").out) == [{"job": "pg", "server": "a"}]
    assert query("--series", '{server="z"}', *BETWEEN) == (0, "", "there are none\n")


def test_everything_in_pages(query: Query, tenant: Tenant, tmp_path: Path) -> None:
    """More lines than one answer has; --limit 0 gives each once."""
    for start in range(0, 12_000, 3000):
        tenant.push({"job": "many"}, [(NOW + i // 7, str(i)) for i in range(start, start + 3000)])
    query('{job="many"}', *BETWEEN, "--limit", "0", "-o", "raw", "--out", "x.txt", "--forward")
    assert (tmp_path / "x.txt").read_text().split() == [str(i) for i in range(12_000)]


METRIC = 'sum by (server) (count_over_time({job="pg"}[1m]))'


def test_metrics(query: Query, tenant: Tenant, tmp_path: Path) -> None:
    tenant.push({"job": "pg", "server": "a"}, [(NOW - 80 * S + i * S, "x") for i in range(90)])
    tenant.push({"job": "pg", "server": "b"}, [(NOW, "x")])
    moment = ("--at", "2023-11-14T22:13:20Z")
    assert query(METRIC, *moment).out == "server  VALUE\na       60\nb       1\n"
    assert query(METRIC, "--to", "2023-11-14T22:13:20Z", "--instant").out == "server  VALUE\na       60\nb       1\n"
    assert query(METRIC, *moment, "-o", "raw").out == "60\n1\n"
    assert query("1 + 1", *moment).out == "2\n"
    found = [json.loads(line) for line in query(METRIC, *moment, "-o", "jsonl").out.splitlines()]
    assert found[0] == {"labels": {"server": "a"}, "timestamp": "2023-11-14T22:13:20.000000000Z", "value": "60"}
    assert json.loads(query(METRIC, *moment, "--json").out)["resultType"] == "vector"
    over = ("--from", "2023-11-14T22:12:20Z", "--to", "2023-11-14T22:14:20Z", "--step", "1m")
    assert query(METRIC, *over, "-o", "table").out.splitlines()[:2] == [
        "TIME                     server  VALUE",
        "2023-11-14 22:12:20.000  a       21",
    ]
    rows = list(csv.reader(io.StringIO(query(METRIC, *over, "-o", "csv").out, newline="")))
    assert rows[:2] == [["timestamp", "server", "value"], ["2023-11-14T22:12:20.000000000Z", "a", "21"]]
    query(METRIC, *over, "-o", "parquet", "--out", "x.parquet")
    assert pq.read_table(tmp_path / "x.parquet").column("value").to_pylist() == [21, 60, 9, 1]
    sparks = query(METRIC, *over).out.splitlines()
    assert sparks[0].split() == ["SERIES", "MIN", "MAX", "LAST"]
    assert sparks[1].split() == ['{server="a"}', "▃█▂", "9", "60", "9"]
    bars = query('sum(count_over_time({job="pg"}[1m]))', *over).out.splitlines()
    assert bars[0].split() == ["TIME", "VALUE"]
    assert bars[2] == f"22:13:20  {'█' * 40}  61"
    assert query('sum(rate({job="none"}[1m]))', *over) == (0, "", "no samples\n")
    assert len(query(METRIC, *over[:4], "--histogram").out.splitlines()) == 3


def test_lines_over_time(query: Query, tenant: Tenant) -> None:
    tenant.push({"job": "pg", "severity": "ERROR"}, [(NOW + i * S, '{"a":1}') for i in range(3)])
    tenant.push({"job": "pg"}, [(NOW + 60 * S, "no json")])
    over = ("--from", "2023-11-14T22:13:00Z", "--to", "2023-11-14T22:15:00Z", "--histogram", "--step", "1m")
    said = query('{job="pg"} | json', *over, "--limit", "1")
    assert said.out.splitlines()[:3] == [
        f"22:13:00  {'█' * 40}  3  (3 error)",
        f"22:14:00  {'█' * 13 + '▍':<40}  1",
        "",
    ]
    assert said.out.splitlines()[3].endswith("no json")
    program = query('{job="pg"}', *over, "--limit", "1", "-o", "raw")
    assert program.out == "no json\n"
    assert "3  (3 error)" in program.err


def test_statistics(query: Query, tenant: Tenant) -> None:
    """What the server tells of all pages, added up."""
    for start in range(0, 6000, 3000):
        tenant.push({"job": "pg"}, [(NOW + i, "x") for i in range(start, start + 3000)])
    said = query('{job="pg"}', *BETWEEN, "--stats", "--limit", "0", "-o", "raw").err
    assert "answers: 2" in said
    # The second page begins with the last line of the first.
    assert "lines returned: 6,001" in said
    assert re.search(r"seconds of work: 0\.\d\d\d", said)


def test_lines_some_time_apart(query: Query, tenant: Tenant) -> None:
    tenant.push({"job": "pg"}, [(NOW + i * S, str(i)) for i in range(10)])
    assert query('{job="pg"}', *BETWEEN, "--interval", "4s", "--forward", "-o", "raw").out.split() == ["0", "4", "8"]


def test_explain(query: Query, tenant: Tenant) -> None:
    tenant.push({"job": "pg"}, [(NOW, "x")])
    assert "SEGMENT" in query('{job="pg"} |= "x"', *BETWEEN, "--explain").out


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ((), ["there is no query"]),
        (('{job="pg"', "--since", "soon", "--limit", "-2"), ["3 things", "line 1, col 10", "--since", "--limit -2"]),
        (('{a="b"}', "-o", "parquet"), ["give --out FILE.parquet"]),
        (('{a="b"}', "-o", "table", "--limit", "0"), ["at most 5000", "csv or jsonl"]),
        (('{a="b"}', "--follow", "--forward", "-o", "parquet"), ["never ends", "leave --forward out"]),
        (('{a="b"}', "--step", "1m"), ["--step is for metric queries"]),
        (('rate({a="b"}[1m])', "--follow"), ["cannot be followed"]),
        (('rate({a="b"}[1m])', "--step", "1m", "--instant"), ["--instant and --step"]),
        (('rate({a="b"}[1m])', "--step", "0"), ["--step 0 is not more than nothing"]),
        (('{a="b"}', "--delay-for", "9"), ["--delay-for 9"]),
        (('{a="b"}', "--out", "no/such/folder/x"), ["--out no/such/folder/x"]),
        (("--labels", "--series"), ["--labels and --series"]),
        (('{a="b"}', "--include-label", "x", "--exclude-label", "x"), ["x is both"]),
        (('{a="b"}', "--interval", "1s", "--limit", "0"), ["--interval"]),
        (('{a="b"}', "--output", "xml"), ["xml"]),
    ],
)
def test_what_is_wrong_is_told_at_once(query: Query, arguments: tuple[str, ...], names: list[str]) -> None:
    done = query(*arguments)
    assert done.code == 2
    assert all(name in done.err for name in names), done.err
    assert done.out == ""


def command(served: Served, tenant: Tenant, *arguments: str) -> list[str]:
    asked = ["--url", served.url, "--tenant", tenant.name]
    # Ctrl-C within a request leaves its socket to the end of the process.
    warnings = ["-W", "error", "-W", "ignore::ResourceWarning"]
    return [sys.executable, *warnings, "-m", "atalaia", "query", *arguments, *asked]


def test_a_reader_that_has_seen_enough(served: Served, tenant: Tenant) -> None:
    tenant.push({"job": "pg"}, [(NOW + i, "x" * 1000) for i in range(5000)])
    with (
        subprocess.Popen(
            command(served, tenant, '{job="pg"}', *BETWEEN, "--limit", "0", "-q"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process,
        ended(process),
    ):
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        assert (process.wait(20), said) == (0, b"")


@pytest.mark.parametrize("form", ["parquet", "csv", "jsonl"])
def test_interrupted_what_was_written_is_whole(served: Served, tenant: Tenant, tmp_path: Path, form: str) -> None:
    for start in range(0, 30_000, 15_000):
        tenant.push({"job": "pg"}, [(NOW + i, f"{i} " + "x" * 100) for i in range(start, start + 15_000)])
    out = tmp_path / "x"
    asked = ('{job="pg"}', *BETWEEN, "--limit", "0", "--forward", "-o", form, "--out", str(out))
    with (
        subprocess.Popen(command(served, tenant, *asked), stderr=subprocess.PIPE, text=True) as process,
        ended(process),
    ):
        deadline = time.monotonic() + 30
        while not (out.exists() and out.stat().st_size > 0):
            assert time.monotonic() < deadline
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        assert process.stderr
        said = process.stderr.read()
        assert process.wait(20) == 130, said
    told = re.search(r"not all: ([\d,]+) lines", said)
    assert told, said
    count = int(told[1].replace(",", ""))
    if form == "parquet":
        lines = pq.read_table(out).column("line").to_pylist()
    elif form == "csv":
        lines = [row[2] for row in csv.reader(io.StringIO(out.read_bytes().decode(), newline=""))][1:]
    else:
        lines = [json.loads(line)["line"] for line in out.read_text().splitlines()]
    assert [int(line.split()[0]) for line in lines] == list(range(len(lines)))
    # A write that Ctrl-C waited for is there, too.
    assert count <= len(lines) <= count + 1000
    assert "Traceback" not in said


def test_variables_as_logcli_has_them(
    served: Served, tenant: Tenant, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    tenant.push({"job": "pg"}, [(NOW, "x")])
    monkeypatch.setenv("LOKI_ADDR", served.url)
    monkeypatch.setenv("LOKI_ORG_ID", tenant.name)
    monkeypatch.setattr(sys, "argv", ["atalaia", "query", '{job="pg"}', *BETWEEN, "-o", "raw"])
    with pytest.raises(SystemExit):
        main.run()
    assert capsys.readouterr().out == "x\n"
