"""Restores a dump into a throw-away server, dumps that again, and compares: the only proof there is."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg import sql

from atalaia.backup.inspecting.inspect import Inspected
from atalaia.backup.model import Progress
from atalaia.backup.plain.contents import Contents, Database, Reader, differences, identifier
from atalaia.backup.plain.lexer import Lexer
from atalaia.backup.plain.load import contents_of, psql
from atalaia.environment.errors import InputError
from atalaia.postgres.binaries import OLDEST, Installation, available
from atalaia.postgres.cluster import SUPERUSER, Cluster
from atalaia.postgres.connect import connect
from atalaia.postgres.places import reachable
from atalaia.postgres.temporary import sweep, temporary
from atalaia.runtime.accounts import server_account

_OF_DATABASE = re.compile(
    rb"(?:CREATE|ALTER|COMMENT ON) DATABASE |SELECT pg_catalog\.set_config\(|(?:GRANT|REVOKE) .* ON DATABASE "
)
_DATABASE_ENTRY = re.compile(
    rb"-- Name: .*; Type: DATABASE(?: PROPERTIES)?; |-- Name: DATABASE .*; Type: (?:ACL|COMMENT); "
)
_PREFIX = "atalaia-prove-"
_NEW = 60.0  # seconds: as old as that, an empty folder is not one in which a server is about to be made


@dataclass(frozen=True, slots=True)
class Proof:
    """How it went: `problem` is empty when all that the dump holds came back. `rows` are those that did."""

    server_version: str
    seconds: float
    rows: int
    tables: int
    problem: str


def prove(inspected: Inspected, progress: Progress) -> Proof:
    """Restore the repaired text of a dump into a temporary server of its major version, or the next that there is.

    Raises InputError when there is nothing to restore, Untested or AtalaiaError when the test cannot be made here.
    """
    report = inspected.report
    if inspected.text is None:
        raise InputError(f"{report.path} cannot be proven: it is {report.verdict}", "restore another dump")
    account = server_account()
    installation = reachable(fitting(report.server_version), account)
    _sweep(Path(tempfile.gettempdir()))
    with tempfile.TemporaryDirectory(prefix=_PREFIX) as folder:
        os.chmod(folder, 0o711)  # noqa: S103 - the servers' account must pass through it; what is in it is 0750
        progress(f"restoring into a temporary PostgreSQL {installation.version}")
        with temporary(installation, account, Path(folder)) as cluster:
            return _restore(inspected, cluster)


def _sweep(parent: Path) -> None:
    """End and remove what a proof of ours that was killed has left."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):  # another user's, or not empty
            if folder.lstat().st_uid == os.geteuid() and (sweep(folder) or time.time() - folder.stat().st_mtime > _NEW):
                folder.rmdir()


def fitting(version: str) -> Installation:
    """The installation of a version's major, or of the oldest newer one. Raises InputError when there is none."""
    digits = version.split(".")[0]
    first = max(int(digits) if digits.isdigit() else OLDEST, OLDEST)
    found = available()
    if majors := [major for major in found if major >= first]:
        return found[min(majors)]
    raise InputError(f"there is no PostgreSQL {first} or newer here", "install one, then try again")


def _restore(inspected: Inspected, cluster: Cluster) -> Proof:
    assert inspected.text
    alone = inspected.report.scope == "database"
    if alone:
        _make_roles(cluster, inspected.wanted_roles)
    began = time.monotonic()
    expected, problem = psql(inspected.text(), cluster, _Reader(SUPERUSER if alone else ""))
    seconds = time.monotonic() - began
    found = contents_of(cluster, _Reader())
    if alone:
        expected, found = _of_one(expected, found)
    if inspected.inserts:  # whose bytes are not those of rows
        found = replace(found, databases={name: _without_sizes(one) for name, one in found.databases.items()})
    if not problem:
        problem = "; ".join(differences(expected, found))
    return Proof(cluster.installation.version, round(seconds, 3), found.rows, found.tables, problem)


class _Reader(Reader):
    """Reads no settings, owners and comments of databases themselves: dumps with -c or -C have them, others do not."""

    def _statement(self, text: bytes) -> None:
        if text.startswith(b"INSERT INTO ") and self._current:
            table = identifier(text[len(b"INSERT INTO ") :], 2)
            self._current.tables[table] = (self._current.tables.get(table, (0, 0))[0] + _rows(text), 0)
        elif not _OF_DATABASE.match(text):
            super()._statement(text)

    def _comment(self, text: bytes) -> None:
        if not _DATABASE_ENTRY.match(text):
            super()._comment(text)
        else:
            self._entry = None


def _rows(insert: bytes) -> int:
    """How many rows an INSERT statement of pg_dump has: those of --rows-per-insert begin a line each."""
    lexer = Lexer(inserts=True)
    return sum(piece.rows for piece in lexer.feed(insert + b"\n")) or 1


def _without_sizes(one: Database) -> Database:
    return replace(one, tables={name: (rows, 0) for name, (rows, _) in one.tables.items()})


def _make_roles(cluster: Cluster, roles: tuple[str, ...]) -> None:
    with connect(cluster, autocommit=True) as connection:
        there = {row[0] for row in connection.execute("SELECT rolname FROM pg_roles")}
        for role in roles:
            if role not in there | {"PUBLIC", "CURRENT_USER"}:
                connection.execute(sql.SQL("CREATE ROLE {}").format(sql.Identifier(role)))


def _of_one(expected: Contents, found: Contents) -> tuple[Contents, Contents]:
    """A dump of one database says nothing of roles, nor of the other databases of the server."""
    held = {name: one for name, one in expected.databases.items() if one.tables or one.objects or one.large_objects}
    common = {name: found.databases[name] for name in held if name in found.databases}
    return replace(expected, databases=held), replace(
        found, roles=expected.roles, shared=expected.shared, databases=common
    )
