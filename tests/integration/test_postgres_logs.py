"""Logs of real servers: what they write in three formats at once must be the same entries."""

from __future__ import annotations

import contextlib
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from api_support import Tenant, served, tenant
from logs_support import wait_for
from test_collector_delivery import running
from tests.conftest import soak

from atalaia.collector import pipeline
from atalaia.collector.formats.auto import Auto
from atalaia.collector.formats.csvlog import csvlog
from atalaia.collector.formats.format import Format
from atalaia.collector.formats.jsonlog import jsonlog
from atalaia.collector.formats.prefix import chosen
from atalaia.collector.formats.redact import Redacted
from atalaia.collector.formats.stderr import Stderr
from atalaia.collector.own import environment_plan
from atalaia.collector.plan import Job
from atalaia.environment.connection import Connection
from atalaia.environment.errors import AtalaiaError
from atalaia.environment.load import Environment, parse
from atalaia.environment.state import State
from atalaia.postgres import binaries, connect, control, settings
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.places import make
from atalaia.postgres.tools import variables
from atalaia.runtime import process as processes
from conftest import NewServer

__all__ = ["served", "tenant"]

SECRET = "Zq7Xv"
# All that stderr can tell. (%l counts each line there, and each record in the other two.)
FULL = "%m|%p|%u|%d|%a|%r|%b|%e|%c|%s|%v|%x|%i|%P%q "
SETUP = """\
CREATE TABLE t (id int PRIMARY KEY, name text NOT NULL, CHECK (id < 1000));
INSERT INTO t VALUES (1, 'one');
CREATE FUNCTION deep(x int) RETURNS int LANGUAGE plpgsql AS $f$
BEGIN
    RAISE WARNING 'first line
second line of %', x USING DETAIL = 'a detail
	with a tab', HINT = 'a hint';
    EXECUTE 'SELECT ''Zq7Xv'' || nothing FROM t';
    RETURN x;
END $f$;
"""
STATEMENTS = (
    "INSERT INTO t VALUES (1, 'Zq7Xv')",
    "INSERT INTO t VALUES (2, NULL)",
    "INSERT INTO t VALUES (4711, 'Zq7Xv é')",
    "SELECT\n\t'Zq7Xv\n\nHINT:  no hint', 1 / 0\n\n",
    "SELECT deep(3)",
    "SELECT 'Zq7Xv'::int",
    "SELEC 'Zq7Xv'",
    "SELECT nothing FROM t WHERE name = $$Zq7Xv$$",
    "DO $d$ BEGIN RAISE LOG 'a \"quoted\", and a comma'; END $d$",
    "SELECT 'open Zq7Xv",
    "ALTER ROLE postgres PASSWORD 'Zq7Xv'; SELECT 1/0",
    "SELECT " + ", ".join(f"'{'x' * 400} Zq7Xv {n}'" for n in range(40)) + ", 1/0",
)


@contextlib.contextmanager
def logging(cluster: Cluster, *given: str, **environment: str) -> Iterator[Cluster]:
    """The server running with these settings over Atalaia's own; stopped when the block is left."""
    make(cluster.log, cluster.account)
    settings.write(cluster)
    command = [*settings.command(cluster), *itertools.chain(*(("-c", setting) for setting in given))]
    process = processes.start(command, output=cluster.stderr, account=cluster.account, variables=variables(environment))
    try:
        wait_for(lambda: control.accepting(cluster), what="the server")
        yield cluster
    finally:
        assert control.stop(process, 20)
        # The collecting process writes on for a moment.
        last = b"" if environment else b"database system is shut down"
        kinds = {path.suffix[1:] for path in cluster.log.iterdir()}
        wait_for(lambda: all(last in written(cluster, kind) for kind in kinds), what="the last words")


def work(cluster: Cluster, application: str = "the tests") -> None:
    """Make it log: errors with all their parts, statements over many lines, parameters, an odd client."""
    with connect.connect(cluster, autocommit=True) as session:
        session.execute(f"SET application_name = '{application}'")
        session.execute(SETUP)
        session.execute("SET log_min_duration_statement = 0")
        session.execute("SELECT 'Zq7Xv', %s::text, %s::int", ["Zq7Xv\nand more", 4711], prepare=True)
        session.execute("RESET log_min_duration_statement")
        for statement in STATEMENTS:
            with contextlib.suppress(psycopg.Error):
                session.execute(statement)
    with contextlib.suppress(psycopg.OperationalError):
        psycopg.connect(host=cluster.host, port=cluster.port, user="nobody", dbname="none", password="x")


def entries(form: Format, block: bytes) -> list[dict[str, Any]]:
    """A file's entries, read in pieces as a collector may happen to read it."""
    found: list[dict[str, Any]] = []
    done, size = 0, 997
    while done < len(block):
        end = block.rfind(b"\n", 0, done + size) + 1
        if end <= done:
            size *= 2
            continue
        flush = pipeline.ALL if end == len(block) else 0
        taken = pipeline.run(Job("j", (), form), block[done:end], 7, {}, flush)
        if not taken.lines:
            size *= 2
            continue
        for row in taken.entries.record_batch().to_pylist():
            labels = json.loads(row["labels"])
            found.append({**labels, "ts": row["ts"], "line": row["line"], **dict(row["metadata"] or [])})
        done += sum(len(line) + 1 for line in block[done:end].split(b"\n")[: taken.lines])
        size = 997
    return found


def written(cluster: Cluster, suffix: str) -> bytes:
    found = b"".join(path.read_bytes() for path in sorted(cluster.log.glob(f"*.{suffix}")))
    import os

    if os.environ.get("KEEP"):
        Path(os.environ["KEEP"] + "." + suffix).write_bytes(found)
    return found


def by_process(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """In the order of each process: what several write at a time goes into the files as it comes."""
    return sorted(rows, key=lambda row: int(row["pid"]))


def without(rows: list[dict[str, Any]], *names: str) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name not in names} for row in rows]


def compare(cluster: Cluster, stderr: Format) -> list[dict[str, Any]]:
    """The three formats' entries row by row; those of jsonlog."""
    records = by_process(entries(jsonlog, written(cluster, "json")))
    comma = by_process(entries(csvlog, written(cluster, "csv")))
    # The server's first words go before the files of the other two are open.
    plain = by_process(entries(stderr, written(cluster, "log"))[-len(records) :])
    assert comma == records
    wanted = without(records, "session_line", "query_id", "cursor_position")
    names = set(itertools.chain(*plain))
    assert [row["line"] for row in plain] == [row["line"] for row in wanted]
    assert plain == [{name: value for name, value in row.items() if name in names} for row in wanted]
    return records


@pytest.mark.parametrize("major", [16, 18])
def test_three_formats_tell_the_same(new_server: NewServer, major: int) -> None:
    server = new_server(major=major, run=False)
    with logging(server, "log_destination=stderr,csvlog,jsonlog", f"log_line_prefix={FULL}", "log_statement=ddl"):
        work(server)
    found = compare(server, Stderr(chosen(FULL)))
    lines = "\n".join(row["line"] for row in found)
    assert "WARNING:  first line\nsecond line of 3\nDETAIL:  a detail\n\twith a tab\nHINT:  a hint\nCONTEXT:" in lines
    assert "QUERY:  SELECT 'Zq7Xv' || nothing FROM t\nCONTEXT:  PL/pgSQL function deep(integer) line 6" in lines
    assert "DETAIL:  Key (id)=(1) already exists." in lines
    assert {row.get("application") for row in found} >= {"the tests", None}


@pytest.mark.parametrize(
    "prefix",
    ["%n %-8p %q%u@%d/%12a ", "%t [%p]: [%l-1] user=%u,db=%d,app=%a,client=%h "]
    + (["%m [%p] ", "%t:%r:%u@%d:[%p]:"] if soak() else []),
)
def test_prefixes_of_other_people(new_server: NewServer, prefix: str) -> None:
    server = new_server(run=False)
    given = ("log_destination=stderr,jsonlog", f"log_line_prefix={prefix}", "log_error_verbosity=verbose")
    with logging(server, *given, "log_timezone=America/Sao_Paulo"):
        work(server)
    records = by_process(entries(jsonlog, written(server, "json")))
    block = written(server, "log")
    for form in (Stderr(chosen(prefix)), Auto("x", prefix), Auto("x")):
        if isinstance(form, Auto) and form.prefix is None and "%n" in prefix:
            continue  # nobody else's: it must be given
        plain = by_process(entries(form, block)[-len(records) :])
        assert [row["line"] for row in plain] == [row["line"] for row in records]
        second = 10**9 if "%t" in prefix else 1
        assert [row["ts"] // second for row in plain] == [row["ts"] // second for row in records]
        for name in ("severity", "pid", "user", "database", "application", "sqlstate"):
            told = {row.get(name) for row in plain} - {None}
            same = [row.get(name) for row in plain] == [row.get(name) for row in records]
            assert same or not told, (name, told)


def test_no_secret_leaves_a_real_server(new_server: NewServer) -> None:
    server = new_server(run=False)
    destinations = "log_destination=stderr,csvlog,jsonlog"
    with logging(server, destinations, "log_statement=all", "log_min_duration_statement=0", "log_lock_waits=on"):
        work(server)
    for name in ("json", "csv", "log"):
        no_secret(written(server, name))


def no_secret(block: bytes) -> None:
    assert block.count(SECRET.encode()) > 40
    plain = entries(Auto("x"), block)
    redacted = entries(Redacted(Auto("x")), block)
    assert len(plain) == len(redacted)
    leaks = [row["line"] for row in redacted if SECRET in row["line"] or "4711" in row["line"]]
    assert leaks == []
    lines = [row["line"] for row in redacted]
    assert any(line.endswith("STATEMENT:  INSERT INTO t VALUES (?, ?)") for line in lines)
    assert any("DETAIL:  Failing row contains (?)." in line for line in lines)
    assert any(
        "QUERY:  SELECT ? || nothing FROM t\nCONTEXT:  PL/pgSQL function deep(integer) line 6" in x for x in lines
    )
    assert [row["ts"] for row in plain] == [row["ts"] for row in redacted]


LANGUAGES = ["de_DE", "es_ES", "fr_FR", "it_IT", "ja_JP", "ka_GE", "ko_KR", "ru_RU", "sv_SE", "uk_UA", "zh_CN"]


@pytest.fixture(scope="session")
def spoken(open_folder: Path) -> Callable[[str], Path]:
    """Makes a locale; the folder that it is in. Skips where this machine has neither locales nor a server with them."""

    def speak(language: str) -> Path:
        try:
            found = binaries.find(15)
        except AtalaiaError:
            pytest.skip("no PostgreSQL 15 with catalogues here")
        catalogue = Path(f"/usr/share/locale/{language[:2]}/LC_MESSAGES/postgres-15.mo")
        chinese = Path(f"/usr/share/locale/{language}/LC_MESSAGES/postgres-15.mo")
        if "wheel" in found.origin or not (catalogue.is_file() or chinese.is_file()) or not shutil.which("localedef"):
            pytest.skip("no PostgreSQL 15 with catalogues here")
        folder = open_folder / "locales"
        folder.mkdir(exist_ok=True)
        made = subprocess.run(
            ["localedef", "-c", "-i", language, "-f", "UTF-8", folder / f"{language}.UTF-8"],
            capture_output=True,
            check=False,
        )
        if not (folder / f"{language}.UTF-8").is_dir():
            pytest.skip(f"no locale {language}: {made.stderr[-200:]!r}")
        return folder

    return speak


@pytest.mark.parametrize("language", LANGUAGES if soak() else ["fr_FR", "zh_CN"])
def test_servers_that_speak_other_languages(
    new_server: NewServer, spoken: Callable[[str], Path], language: str
) -> None:
    folder = spoken(language)
    server = new_server(major=15, run=False)
    destinations = "log_destination=stderr,csvlog,jsonlog"
    with logging(
        server,
        destinations,
        f"lc_messages={language}.UTF-8",
        "log_statement=all",
        LOCPATH=str(folder),
        LC_ALL="C.UTF-8",
    ):
        work(server)
    records = by_process(entries(jsonlog, written(server, "json")))
    plain = by_process(entries(Auto("x"), written(server, "log"))[-len(records) :])
    assert [row["severity"] for row in plain] == [row["severity"] for row in records]
    assert {row["severity"] for row in records} == {"LOG", "ERROR", "FATAL", "WARNING"}
    assert [row["ts"] for row in plain] == [row["ts"] for row in records]
    comma = by_process(entries(csvlog, written(server, "csv")))
    assert without(comma, "line") == without(records, "line")
    # jsonlog's severities are English whatever the language, and so are the headings that we write.
    assert [row["line"].split(":  ", 1)[1] for row in comma] == [row["line"].split(":  ", 1)[1] for row in records]
    for name in ("json", "log"):
        for row in entries(Redacted(Auto("x")), written(server, name)):
            assert SECRET not in row["line"]


def test_a_server_elsewhere_is_collected_while_it_rotates_its_files(
    new_server: NewServer, tenant: Tenant, tmp_path: Path
) -> None:
    server = new_server(run=False)
    file = tmp_path / "atalaia.toml"
    text = f'[collection]\ntargets = []\n[[collection.postgres]]\nname = "main"\nlogs = "{server.log}/*.log"\n'
    environment = Environment(file, parse(text, file)[0], State(tmp_path / ".atalaia"), {})
    plan = environment_plan(environment, {}, Connection(str(tenant.http.base_url).rstrip("/"), tenant.name))
    given = ("log_destination=stderr,jsonlog", "log_filename=a-%H%M%S.log", "log_min_messages=log")
    with logging(server, *given), running(plan):
        with connect.connect(server, autocommit=True) as session:
            for number in range(60):
                session.execute(f"DO $d$ BEGIN RAISE LOG 'number {number}\nof sixty' USING HINT = 'count'; END $d$")
                if number % 20 == 19:
                    session.execute("SELECT pg_rotate_logfile(), pg_sleep(1.1)")  # its name has seconds
        query = '{server="main", severity="LOG"} |= "of sixty"'
        now = time.time_ns()

        def lines() -> list[str]:
            return tenant.lines(query, start=now - 10**12, end=now + 10**12)

        wait_for(lambda: len(lines()) >= 60, what="all the records")
    wanted = [f"LOG:  number {number}\nof sixty\nHINT:  count" for number in range(60)]
    found = [line.split("\nCONTEXT:", 1)[0] for line in lines()]
    assert sorted(found) == sorted(wanted)
    assert len(list(server.log.glob("*.log"))) >= 3
