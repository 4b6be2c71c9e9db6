"""Connections and programs that restore: settings of a database or a role must not change what is loaded."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from atalaia.backup.logical.toc import Toc
from atalaia.backup.model import Untested
from atalaia.backup.plain.load import TROUBLE
from atalaia.backup.programs import conninfo, running
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect

_SETTINGS = (
    *("SET statement_timeout = 0", "SET lock_timeout = 0", "SET idle_in_transaction_session_timeout = 0"),
    *("SET default_transaction_read_only = off", "SET row_security = off", "SET check_function_bodies = false"),
    *("SET xmloption = content", "SET datestyle = ISO", "SET intervalstyle = postgres", "SET synchronous_commit = off"),
    *("SET client_min_messages = warning", "SELECT pg_catalog.set_config('search_path', '', false)"),
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = 'transaction_timeout'",
)
# SQLSTATE classes of the machine's trouble: connections, resources, operators, the system.
_MACHINE = ("08", "53", "57", "58")


class Refused(AtalaiaError):
    """The server has refused something of the backup: it does not restore."""


@contextmanager
def session(cluster: Cluster, database: str, contents: Toc | None = None) -> Iterator[psycopg.Connection]:
    """A connection in autocommit that reads text as the dump has written it."""
    with connect(cluster, database, autocommit=True) as connection:
        for statement in _SETTINGS:
            connection.execute(statement)
        for statement in contents.statements("ENCODING", "STDSTRINGS") if contents else ():
            execute(connection, statement)
        yield connection


def execute(connection: psycopg.Connection, statements: str) -> None:
    """Run SQL of a dump."""
    connection.execute(statements.encode(errors="surrogateescape"))


def judged(error: psycopg.Error, what: str) -> AtalaiaError:
    """An error of the server as ours: Refused, or Untested when it is the machine's trouble."""
    said = str(error).strip().splitlines()
    message = f"{what}: {said[0] if said else type(error).__name__}"
    state = error.sqlstate or ""
    if not state or state.startswith(_MACHINE) or TROUBLE.search(str(error)):
        return Untested(message, "this says nothing of the backup; correct it and try again")
    return Refused(message, "restore another backup")


def pg_restore(
    cluster: Cluster, database: str, folder: Path, section: str, jobs: int = 1, options: Sequence[str] = ()
) -> None:
    """Restore a section of a dump's directory. Raises Refused with the first error, or Untested."""
    arguments = [
        *(f"--section={section}", "--exit-on-error", f"--jobs={jobs}", f"--dbname={conninfo(database)}"),
        *(*options, str(folder)),
    ]
    with running(cluster, "pg_restore", arguments, subprocess.DEVNULL) as program:
        status = program.process.wait()
        words = program.words()
    if status == 0:
        return
    told = [line for line in words.splitlines() if "error:" in line or "FATAL" in line]
    first = " ".join(told[:1]).removeprefix("pg_restore: ") or f"exit status {status}"
    if status != 1 or TROUBLE.search(words):
        raise Untested(
            f"the restore of {database} could not be carried out: {first}",
            "this says nothing of the backup; correct it and try again",
        )
    raise Refused(f"pg_restore could not restore the {section} of {database}: {first}", "restore another backup")
