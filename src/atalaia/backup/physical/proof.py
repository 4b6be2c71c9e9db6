"""Whether a restored server is what was backed up: its files, its pages, its objects, every row readable."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from atalaia.backup.model import Backup, Progress, Untested
from atalaia.backup.physical import contents, manifest
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.postgres.tools import run

_DAY = 86_400
_READABLE = """
SELECT c.oid::int8, format('%I.%I', n.nspname, c.relname), c.relpages FROM pg_class c JOIN pg_namespace n
    ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND
    (c.relkind = 'r' OR c.relispopulated)
"""
_BTREES = """
SELECT i.indexrelid::int8, format('%I.%I', n.nspname, c.relname), c.relpages FROM pg_index i JOIN pg_class c
    ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_am a ON a.oid = c.relam
 WHERE a.amname = 'btree' AND c.relkind = 'i' AND i.indisvalid AND i.indisready AND c.relpersistence = 'p'
"""
_QUIET = (
    "SET enable_indexonlyscan = off; SET enable_indexscan = off; SET enable_bitmapscan = off;"
    " SET max_parallel_workers_per_gather = 0; SET synchronize_seqscans = off; SET row_security = off"
)


@dataclass(frozen=True, slots=True)
class _Work:
    """A relation to read through."""

    database: str
    oid: int
    name: str
    pages: int
    btree: bool


@dataclass(frozen=True, slots=True)
class Compared:
    """How the comparison went: `problem` is empty when all is well; `rows` were read in `tables`."""

    problem: str
    rows: int = 0
    tables: int = 0
    indexes: int = 0
    objects: int = 0

    def __str__(self) -> str:
        indexes = f", {self.indexes} B-trees checked by amcheck" if self.indexes else ""
        return f"{self.rows} rows of {self.tables} tables read{indexes}, {self.objects} objects compared"


def files_problem(cluster: Cluster, folders: list[Path], progress: Progress) -> str:
    """What pg_verifybackup says of directories that nobody has started a server in; empty when they are right.

    It compares names, sizes and CRC-32C with PostgreSQL's manifest, and parses the WAL. Where it does not run, names
    and sizes are compared, and that is told. Raises AtalaiaError.
    """
    program = cluster.installation.program("pg_verifybackup")
    runs = program.is_file() and run([program, "--version"], account=cluster.account, seconds=30).returncode == 0
    if not runs:
        progress(
            f"{program} does not run here: names and sizes are compared with PostgreSQL's manifest, not its CRC-32C"
        )
    unparsed = () if cluster.installation.program("pg_waldump").is_file() else ("--no-parse-wal",)
    for folder in folders:
        if not runs:
            if wrong := manifest.problem(folder):
                return wrong
            continue
        done = run([program, "--exit-on-error", "--quiet", *unparsed, folder], account=cluster.account, seconds=_DAY)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).replace("pg_verifybackup: error: ", "")
            return f"pg_verifybackup: {'; '.join(said.splitlines()[:5]) or f'exit status {done.returncode}'}"
    return ""


def pages_problem(cluster: Cluster) -> str:
    """What pg_checksums finds wrong in the pages of a stopped server that has checksums. Raises Untested."""
    program = cluster.installation.program("pg_checksums")
    done = run([program, "--check", f"--pgdata={cluster.data}"], account=cluster.account, seconds=_DAY)
    if not done.returncode:
        return ""
    wrong = [line for line in done.stderr.splitlines() if "checksum verification failed" in line]
    if not wrong:
        raise Untested(f"pg_checksums could not check {cluster.data}: {done.stderr.strip()}", "correct it, try again")
    return f"pg_checksums: {'; '.join(wrong[:5])}" + (f", and {len(wrong) - 5} more" if len(wrong) > 5 else "")


def compare(backup: Backup, cluster: Cluster, jobs: int) -> Compared:
    """Read every row of every table of the running server, check its B-trees, compare its objects.

    Raises Untested when it cannot be read for a reason that is not the backup's.
    """
    expected = backup.contents
    try:
        found = contents.contents(cluster)
        if different := contents.differences(expected, found):
            more = f", and {len(different) - 10} more differences" if len(different) > 10 else ""
            return Compared("restored, it differs: " + "; ".join(different[:10]) + more)
        works = sorted(_works(cluster), key=lambda work: -work.pages)
    except psycopg.OperationalError as error:
        raise Untested(f"the restored server could not be read: {error}".strip(), f"see {cluster.stderr}") from error
    except psycopg.Error as error:
        return Compared(f"the restored server's catalogues cannot be read: {str(error).strip()}")
    waiting = iter(works)
    with ThreadPoolExecutor(jobs, thread_name_prefix="prove") as pool:
        results = [pool.submit(_read_all, cluster, waiting) for _ in range(jobs)]
        read = [result.result() for result in results]
    problems = [problem for _, problem in read if problem]
    btrees = sum(work.btree for work in works)
    return Compared(
        "; ".join(problems[:5]), sum(rows for rows, _ in read), len(works) - btrees, btrees, contents.count(expected)
    )


def _works(cluster: Cluster) -> Iterator[_Work]:
    with connect(cluster, autocommit=True) as connection:
        rows = connection.execute("SELECT datname FROM pg_database WHERE datallowconn").fetchall()
        extension = "SELECT 1 FROM pg_available_extensions WHERE name = 'amcheck'"
        checkable = connection.execute(extension).fetchone() is not None
    for (database,) in rows:
        with connect(cluster, database, autocommit=True) as connection:
            for oid, name, pages in connection.execute(_READABLE).fetchall():
                yield _Work(database, oid, name, pages, btree=False)
            if checkable:
                connection.execute("CREATE EXTENSION IF NOT EXISTS amcheck")
                for oid, name, pages in connection.execute(_BTREES).fetchall():
                    yield _Work(database, oid, name, pages, btree=True)


def _read_all(cluster: Cluster, waiting: Iterator[_Work]) -> tuple[int, str]:
    """Read relations until none waits; rows, and the first problem."""
    rows, connection, database = 0, None, ""
    try:
        while (work := next(waiting, None)) is not None:
            if connection is None or database != work.database:
                if connection:
                    connection.close()
                connection, database = connect(cluster, work.database, autocommit=True), work.database
                connection.execute(_QUIET)
            try:
                rows += _read(connection, work)
            except psycopg.OperationalError:
                raise
            except psycopg.Error as error:
                return rows, f"{work.name} of {work.database!r} cannot be read: {str(error).strip().splitlines()[0]}"
    except psycopg.OperationalError as error:
        raise Untested(f"the restored server went away: {error}".strip(), f"see {cluster.stderr}") from error
    finally:
        if connection:
            connection.close()
    return rows, ""


def _read(connection: psycopg.Connection, work: _Work) -> int:
    if work.btree:
        check = sql.SQL("SELECT {}.bt_index_check({}::regclass)")
        row = connection.execute(
            "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE extname = 'amcheck'"
        ).fetchone()
        assert row
        connection.execute(check.format(sql.Identifier(row[0]), sql.Literal(work.oid)))
        return 0
    row = connection.execute(f"SELECT count(*) FROM ONLY {work.name}".encode()).fetchone()
    if not row:
        raise AtalaiaError(f"{work.name} gave no count", "")
    return int(row[0])
