"""`atalaia import` against a real store: the seed's excerpts line by line, repetition, growth, archives, errors."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cramjam
import httpx
import pyarrow as pa
import pytest
from tests.integration.api_support import Served, served  # noqa: F401  # a fixture

from atalaia.cli.main import run
from atalaia.client.pusher import Pushed, Pusher
from atalaia.collector.importing.files import Given
from atalaia.collector.importing.importer import import_text
from atalaia.collector.importing.reader import Reading
from atalaia.environment.errors import AtalaiaError
from atalaia.store.batch import Source

S = 10**9
# The excerpts of the seed's document, as they stand in it.
BLOCKS = [
    (
        "2024-08-08 22:06:43 postgres_a  | PostgreSQL Database directory appears to contain a database; "
        "Skipping initialization\n"
        "2024-08-08 22:06:43 postgres_a  | 2024-08-09 01:06:43.242 UTC [1] LOG:  starting PostgreSQL 16.3 "
        "(Debian 16.3-1.pgdg120+1) on x86_64-pc-linux-gnu, compiled by gcc (Debian 12.2.0-14) 12.2.0, "
        "64-bit\n"
        "2024-08-08 22:06:43 postgres_a  | 2024-08-09 01:06:43.242 UTC [1] LOG:  listening on IPv4 address "
        '"0.0.0.0", port 5432\n'
        "...\n"
    ),
    (
        "2024-08-08 22:06:43 promtail    | level=info ts=2024-08-09T01:06:43.45397488Z caller=server.go:260 "
        'http=[::]:9080 grpc=[::]:45525 msg="server listening on addresses"\n'
        "2024-08-08 22:06:43 promtail    | level=info ts=2024-08-09T01:06:43.461263751Z caller=main.go:119 "
        'msg="Starting Promtail" version="(version=2.4.1, branch=HEAD, revision=f61a4d261)"\n'
        "...\n"
    ),
    (
        "2024-08-08 22:06:43 loki        | 2024-08-09 01:06:43.223494 I | proto: duplicate proto type "
        "registered: purgeplan.DeletePlan\n"
        "2024-08-08 22:06:43 loki        | 2024-08-09 01:06:43.223580 I | proto: duplicate proto type "
        "registered: purgeplan.ChunksGroup\n"
        "...\n"
    ),
    (
        "2024-08-08 23:11:43 postgres_b  | 2024-08-09 02:11:43.174403447Z caller=checkpoint.go:617 "
        'msg="starting checkpoint"\n'
        "2024-08-08 23:11:43 postgres_b  | 2024-08-09 02:11:43.175389109Z caller=checkpoint.go:342 "
        'msg="attempting checkpoint for" dir=/loki/wal/checkpoint.000012\n'
        "...\n"
    ),
    (
        "2024-08-08 22:12:37 postgres_a  | 2024-08-09 01:12:37.666 UTC [97] LOG:  invalid length of startup "
        "packet\n"
        "...\n"
    ),
]
# container, time, level, the line as it is stored, recognised; written by hand.
Expected = tuple[str, str, str | None, str, str | None]
EXPECTED: list[list[Expected]] = [
    [
        (
            "postgres_a",
            "2024-08-09 01:06:43",
            None,
            "PostgreSQL Database directory appears to contain a database; Skipping initialization",
            None,
        ),
        (
            "postgres_a",
            "2024-08-09 01:06:43.242",
            "LOG",
            "LOG:  starting PostgreSQL 16.3 (Debian 16.3-1.pgdg120+1) on x86_64-pc-linux-gnu, "
            "compiled by gcc (Debian 12.2.0-14) 12.2.0, 64-bit",
            None,
        ),
        (
            "postgres_a",
            "2024-08-09 01:06:43.242",
            "LOG",
            'LOG:  listening on IPv4 address "0.0.0.0", port 5432',
            None,
        ),
    ],
    [
        (
            "promtail",
            "2024-08-09 01:06:43.45397488",
            "info",
            "level=info ts=2024-08-09T01:06:43.45397488Z caller=server.go:260 http=[::]:9080 grpc=[::]:45525 "
            'msg="server listening on addresses"',
            None,
        ),
        (
            "promtail",
            "2024-08-09 01:06:43.461263751",
            "info",
            'level=info ts=2024-08-09T01:06:43.461263751Z caller=main.go:119 msg="Starting Promtail" '
            'version="(version=2.4.1, branch=HEAD, revision=f61a4d261)"',
            None,
        ),
    ],
    [
        (
            "loki",
            "2024-08-09 01:06:43.223494",
            "info",
            "2024-08-09 01:06:43.223494 I | proto: duplicate proto type registered: purgeplan.DeletePlan",
            None,
        ),
        (
            "loki",
            "2024-08-09 01:06:43.223580",
            "info",
            "2024-08-09 01:06:43.223580 I | proto: duplicate proto type registered: purgeplan.ChunksGroup",
            None,
        ),
    ],
    [
        (
            "postgres_b",
            "2024-08-09 02:11:43.174403447",
            None,
            '2024-08-09 02:11:43.174403447Z caller=checkpoint.go:617 msg="starting checkpoint"',
            "loki",
        ),
        (
            "postgres_b",
            "2024-08-09 02:11:43.175389109",
            None,
            '2024-08-09 02:11:43.175389109Z caller=checkpoint.go:342 msg="attempting checkpoint for" '
            "dir=/loki/wal/checkpoint.000012",
            "loki",
        ),
    ],
    [
        (
            "postgres_a",
            "2024-08-09 01:12:37.666",
            "LOG",
            "LOG:  invalid length of startup packet",
            None,
        )
    ],
]
ALL = [line for lines in EXPECTED for line in lines]
DOCUMENT = (
    "# Instrumentação do Ambiente\n\nTexto.\n"
    + "\nLogs:\n```\n".join(["", *(block + "```\n" for block in BLOCKS[:3])])
    + "\n```bash\ndocker exec -t postgres_a pg_dumpall -c -U postgres > dump_`date +%d-%m-%Y`.sql\n```\n"
    + "\nLogs:\n```\n".join(["", *(block + "```\n" for block in BLOCKS[3:])])
    + "\n1. Verifique a configuração do cliente.\n"
)


def utc(text: str) -> int:
    whole, _, fraction = text.partition(".")
    moment = datetime.strptime(f"{whole} +0000", "%Y-%m-%d %H:%M:%S %z")
    return int(moment.timestamp()) * S + int(fraction.ljust(9, "0") or "0")


@dataclass(frozen=True)
class Ran:
    """What a command printed."""

    stdout: str
    stderr: str


class Importing:
    """`atalaia import` into one tenant of the session's store."""

    def __init__(self, url: str, tenant: str, folder: Path) -> None:
        self.url, self.tenant, self.folder = url, tenant, folder

    def run(self, *arguments: str | Path, given: bytes = b"", code: int = 0) -> Ran:
        """The command line, in this process."""
        command = ["atalaia", "import", *map(str, arguments), "--url", self.url, "--tenant", self.tenant]
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.chdir(self.folder)
            patch.setattr(sys, "argv", command)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
            with pytest.raises(SystemExit) as ended:
                run()
        assert ended.value.code == code, (out.getvalue(), err.getvalue())
        return Ran(out.getvalue(), err.getvalue())

    def stored(self, *arguments: str | Path, **options: Any) -> list[int]:
        """How many entries of each text were stored."""
        return [one["stored"] for one in json.loads(self.run(*arguments, "--json", **options).stdout)["files"]]

    def entries(self) -> list[dict[str, Any]]:
        """All of the tenant, in order of time."""
        answer = httpx.get(
            f"{self.url}/loki/api/v1/query_range",
            params={"query": '{job=~".+"}', "start": 0, "end": utc("2030-01-01 00:00:00"), "limit": 5000},
            headers={"X-Scope-OrgID": self.tenant, "X-Loki-Response-Encoding-Flags": "categorize-labels"},
        )
        assert answer.status_code == 200, answer.text
        found = [
            {
                "ts": int(value[0]),
                "line": value[1],
                "labels": stream["stream"],
                "metadata": (value[2] if len(value) > 2 else {}).get("structuredMetadata", {}),
            }
            for stream in answer.json()["data"]["result"]
            for value in stream["values"]
        ]
        return sorted(found, key=lambda entry: (entry["ts"], entry["line"]))

    def told(self) -> list[Expected]:
        """The entries as EXPECTED has them."""
        return [
            (
                entry["labels"]["container"],
                entry["ts"],
                entry["labels"].get("severity") or entry["labels"].get("level"),
                entry["line"],
                entry["metadata"].get("recognised"),
            )
            for entry in self.entries()
        ]


def exact(expected: Sequence[Expected]) -> list[tuple[Any, ...]]:
    wanted = [(container, utc(time), *rest) for container, time, *rest in expected]
    return sorted(wanted, key=lambda one: (one[1], one[3]))


@pytest.fixture
def importing(served: Served, request: pytest.FixtureRequest, tmp_path: Path) -> Importing:  # noqa: F811
    return Importing(served.url, f"import-{abs(hash(request.node.nodeid))}", tmp_path)


def test_the_seeds_document_line_by_line_and_repeated(importing: Importing) -> None:
    (importing.folder / "instrumentacao.md").write_text(DOCUMENT)
    answer = importing.run("instrumentacao.md")
    assert importing.told() == exact(ALL)
    told = answer.stderr
    assert "2 entries of container postgres_b are loki's by their content" in told
    assert "starting checkpoint" in told
    assert "5 lines that only say that others were left out" in told
    assert "UTC-03:00" in told
    assert importing.stored("instrumentacao.md") == [0]
    assert importing.told() == exact(ALL)
    pids = [entry["metadata"].get("pid") for entry in importing.entries() if entry["line"].startswith("LOG:")]
    assert pids == ["1", "1", "97"]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_each_excerpt_alone(importing: Importing, number: int) -> None:
    assert importing.stored("-", given=BLOCKS[number].encode()) == [len(EXPECTED[number])]
    assert importing.told() == exact(EXPECTED[number])
    assert importing.stored("-", given=BLOCKS[number].encode()) == [0]


def test_an_excerpt_without_any_time_of_its_own_needs_a_timezone(importing: Importing) -> None:
    first = BLOCKS[0].splitlines(keepends=True)[0].encode()
    assert importing.stored("-", "--timezone", "America/Sao_Paulo", given=first) == [1]
    assert importing.told() == exact(EXPECTED[0][:1])
    answer = importing.run("-", "--dry-run", given=first)
    assert "taken as UTC; --timezone says what they are" in answer.stdout


def capture(lines: int) -> bytes:
    return "".join(f"db  | 2024-08-09 01:06:43.{n:03d} UTC [1] LOG:  line {n}\n" for n in range(lines)).encode()


def test_the_same_content_is_one_source_however_it_is_packed(importing: Importing) -> None:
    data, folder = capture(10), importing.folder
    (folder / "plain.log").write_bytes(data)
    (folder / "a.log.gz").write_bytes(gzip.compress(data))
    (folder / "b.log").write_bytes(bz2.compress(data))
    (folder / "c.xz").write_bytes(lzma.compress(data))
    (folder / "d.zst").write_bytes(bytes(cramjam.zstd.compress(data)))
    (folder / "e.log").write_bytes(b"\xff\xfe" + data.decode().encode("utf-16-le"))
    with zipfile.ZipFile(folder / "f.zip", "w") as archive:
        archive.writestr("inside/x.log", data)
        archive.writestr("y.log.gz", gzip.compress(data))
    with tarfile.open(folder / "g.tar.gz", "w:gz") as packed:
        member = tarfile.TarInfo("var/x.log")
        member.size = len(data)
        packed.addfile(member, io.BytesIO(data))
    answer = json.loads(importing.run(".", "--json").stdout)
    assert [one["stored"] for one in answer["files"]].count(10) == 1
    assert sorted(one["name"] for one in answer["files"]) == [
        "a.log.gz", "b.log", "c.xz", "d.zst", "e.log", "f.zip:inside/x.log", "f.zip:y.log.gz", "g.tar.gz:var/x.log",
        "plain.log",
    ]  # fmt: skip
    assert [entry["line"] for entry in importing.entries()] == [f"LOG:  line {n}" for n in range(10)]


def test_a_grown_file_adds_what_is_new_and_an_older_copy_nothing(importing: Importing) -> None:
    path = importing.folder / "x.log"
    path.write_bytes(capture(5))
    assert importing.stored(path) == [5]
    path.write_bytes(capture(9))
    assert importing.stored(path) == [4]
    path.write_bytes(capture(5))
    assert importing.stored(path) == [0]
    # The same first line, and then others: another file.
    other = capture(2) + b"db  | 2024-08-09 01:06:44 UTC [1] LOG:  another\n"
    path.write_bytes(other)
    assert importing.stored(path) == [3]
    assert importing.stored(path) == [0]
    assert len(importing.entries()) == 12


def test_a_large_import_that_was_cut_off_goes_on(importing: Importing) -> None:
    lines = [f"2024-08-09 01:06:43.242 UTC [1] LOG:  {n:06d} {'x' * 400}\n" for n in range(25_000)]
    path = importing.folder / "large.log"
    path.write_text("".join(lines))
    command = [sys.executable, "-m", "atalaia", "import", str(path), "--url", importing.url]
    child = subprocess.Popen([*command, "--tenant", importing.tenant], stdout=subprocess.DEVNULL)

    def count() -> int:
        query = {"query": 'sum(count_over_time({job="import"}[1h]))', "time": utc("2024-08-09 01:30:00")}
        headers = {"X-Scope-OrgID": importing.tenant}
        found = httpx.get(f"{importing.url}/loki/api/v1/query", params=query, headers=headers).json()["data"]["result"]
        return int(found[0]["value"][1]) if found else 0

    try:
        while not (before := count()) and child.poll() is None:
            pass
    finally:
        child.kill()
        child.wait()
    assert before
    importing.run(path)
    assert count() == 25_000
    assert importing.stored(path) == [0]


class Failing(Pusher):
    """Fails to push once, slowly, so that more is in line behind it."""

    def __init__(self, url: str, failing: int) -> None:
        super().__init__(url)
        self._left = failing

    def push(self, entries: pa.Table, tenant: str, source: Source, *also: Source) -> Pushed:
        self._left -= 1
        if self._left == -1:
            time.sleep(0.2)
            raise AtalaiaError("the store went away")
        return super().push(entries, tenant, source, *also)


@pytest.mark.parametrize("failing", [0, 1, 2])
def test_nothing_is_pushed_behind_what_failed(importing: Importing, failing: int) -> None:
    lines = [f"2024-08-09 01:06:43.{n % 1000:03d} UTC [1] LOG:  {n}\n" for n in range(2000)]
    data = "".join(lines).encode()
    given = Given("x.log", "x.log", datetime.now(UTC), len(data), lambda: io.BytesIO(data))
    reading = Reading({"job": "import"})
    with patch("atalaia.collector.importing.content.BLOCK", 8192):
        with contextlib.closing(Failing(importing.url, failing)) as pusher:
            with pytest.raises(AtalaiaError, match="the store went away"):
                import_text(given, reading, None, pusher, importing.tenant, lambda: None)
            assert len(importing.entries()) <= 200 * failing
        with contextlib.closing(Pusher(importing.url)) as pusher:
            import_text(given, reading, None, pusher, importing.tenant, lambda: None)
            assert import_text(given, reading, None, pusher, importing.tenant, lambda: None).stored == 0
    assert sorted(int(entry["line"].split()[1]) for entry in importing.entries()) == list(range(2000))


def test_labels_and_times_as_asked(importing: Importing) -> None:
    path = importing.folder / "x.log"
    path.write_bytes(capture(5))
    since = ["--since", "2024-08-09T01:06:43.001Z", "--until", "2024-08-09T01:06:43.003Z"]
    answer = json.loads(importing.run(path, *since, "--job", "old", "--label", "host=web1", "--json").stdout)
    assert answer["files"][0]["notes"] == ["3 entries are not of the time asked for"]
    found = importing.entries()
    assert [entry["line"] for entry in found] == ["LOG:  line 1", "LOG:  line 2"]
    assert found[0]["labels"] == {
        "job": "old", "host": "web1", "container": "db", "filename": "x.log", "severity": "LOG",
    }  # fmt: skip


def test_jsonlog_of_postgresql_is_as_the_collector_has_it(importing: Importing) -> None:
    record = {
        "timestamp": "2024-08-09 01:06:43.242 UTC", "pid": 7, "error_severity": "ERROR", "state_code": "42P01",
        "message": "no", "statement": "select", "backend_type": "client backend",
    }  # fmt: skip
    (importing.folder / "a.json").write_text(json.dumps(record) + "\n")
    assert importing.stored("a.json") == [1]
    (entry,) = importing.entries()
    assert (entry["ts"], entry["line"]) == (utc("2024-08-09 01:06:43.242"), "ERROR:  no\nSTATEMENT:  select")
    assert entry["metadata"]["sqlstate"] == "42P01"


def test_csvlog_of_postgresql_with_lines_in_its_fields(importing: Importing) -> None:
    head = "2024-08-09 01:06:43.242 UTC,app,shop,7,10.0.0.1:5432,66b56d43.7,1,SELECT,2024-08-09 01:06:40 UTC,3/4,0,"
    (importing.folder / "a.csv").write_text(
        head + 'ERROR,42P01,"no","more\nlines",,,,,"select\n1",8,,psql,client backend,,0\n'
    )
    assert importing.stored("a.csv") == [1]
    (entry,) = importing.entries()
    assert entry["line"] == "ERROR:  no at character 8\nDETAIL:  more\nlines\nSTATEMENT:  select\n1"
    assert entry["ts"] == utc("2024-08-09 01:06:43.242")
    assert (entry["metadata"]["user"], entry["metadata"]["database"]) == ("app", "shop")


def test_a_dry_run_shows_what_it_found_and_pushes_nothing(importing: Importing) -> None:
    path = importing.folder / "x.log"
    path.write_bytes(BLOCKS[0].encode() + BLOCKS[3].encode())
    answer = importing.run(path, "--dry-run").stdout
    for text in ("5 entries, 2024-08-09 01:06:43.000 to 2024-08-09 02:11:43.175", "postgres_a", "logfmt behind a time"):
        assert text in answer
    assert not importing.entries()


def test_what_cannot_be_imported_is_told_and_the_rest_is_imported(importing: Importing) -> None:
    folder = importing.folder
    (folder / "a.bin").write_bytes(bytes(range(4)) * 5000)
    (folder / "b.log.gz").write_bytes(gzip.compress(os.urandom(40_000).hex().encode() + b"\n")[:20_000])
    (folder / "c.parquet").write_bytes(b"PAR1....")
    (folder / "d.log").write_bytes(capture(3))
    (folder / "e.log").write_bytes(b"")
    answer = importing.run(".", code=1)
    told = answer.stderr
    assert "a.bin: it is not text" in told
    assert "b.log.gz: it is damaged" in told
    assert "c.parquet: it is a Parquet file" in told
    assert "`atalaia store import` takes it" in told
    assert [e["line"] for e in importing.entries() if e["labels"]["filename"] == "d.log"] == [
        f"LOG:  line {n}" for n in range(3)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.log"], "there is no file nothing.log"),
        (["x.log", "--format", "odd"], "--format 'odd' is not known"),
        (["x.log", "--timezone", "Mars"], "--timezone 'Mars' is not known"),
        (["x.log", "--label", "a"], "--label 'a' is not NAME=VALUE"),
        (["x.log", "--label", "level=x"], "this label is found in the lines"),
        (["x.log", "--since", "yesterday"], "--since"),
        (["x.log", "--year", "12"], "--year 12 is not from 1970"),
        (["-", "-"], "- is named twice"),
        (["."], "there is nothing to import"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_told(importing: Importing, arguments: list[str], message: str) -> None:
    if "x.log" in arguments:
        (importing.folder / "x.log").write_bytes(capture(1))
    assert message in importing.run(*arguments, code=2).stderr


def test_without_a_store_nothing_is_read(importing: Importing) -> None:
    (importing.folder / "x.log").write_bytes(capture(1))
    importing.url = "http://127.0.0.1:9"
    answer = importing.run("x.log", code=1)
    assert "the store at http://127.0.0.1:9 does not take pushes" in answer.stderr
