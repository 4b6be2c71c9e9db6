"""A running server -> globals and one dump of each database, as members of a backup or only looked at."""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from atalaia.backup.logical import toc as tocs
from atalaia.backup.logical.follow import Followed, Follower
from atalaia.backup.logical.streams import Nowhere, Output
from atalaia.backup.model import logfmt
from atalaia.backup.plain.head import Head, tolerant
from atalaia.backup.programs import conninfo, output_of, running
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import SUPERUSER, Cluster
from atalaia.postgres.connect import connect

GLOBALS = "globals.sql"
LOCK_WAIT = 300_000  # ms; a table locked for longer fails the dump instead of letting it hang unseen
ATTEMPTS = 10  # a DROP must come in the moment between list and lock of one database, each time anew
_DROPPED = re.compile(
    r"could not obtain lock on relation|"
    r'(relation|database) ".*" does not exist|could not open relation with OID|cache lookup failed for'
)
_NOTHING = re.compile(r"no matching (schemas|tables) were found")
_ROOM = 64 << 20
_log = logging.getLogger("atalaia.backup")


@dataclass(frozen=True, slots=True)
class Dumped:
    """A whole dump: `databases` in the order they were dumped; `nothing` names those where nothing was selected."""

    globals: bytes
    databases: dict[str, Followed]
    said: str = ""
    nothing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """How to dump: `options` are pg_dump's, of what is selected."""

    databases: tuple[str, ...]
    jobs: int = 2
    options: tuple[str, ...] = ()
    passwords: bool = True


@dataclass(slots=True)
class _Databases:
    """`begun` tells whether anything of the database at hand has reached an output."""

    found: dict[str, Followed] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    nothing: list[str] = field(default_factory=list)
    begun: bool = False


class Crossed(AtalaiaError):
    """A DROP came between pg_dump's list and its locks, or a lock between those of the leader and of a worker.

    Another dump may succeed; one with a single connection needs no second lock.
    """


def databases(cluster: Cluster) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The databases that can be dumped, template1 and postgres first, and those that a broken DROP has left invalid."""
    with connect(cluster, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT datname, datconnlimit = -2 FROM pg_database WHERE datallowconn"
            " ORDER BY datname <> 'template1', datname <> 'postgres', datname"
        ).fetchall()
    return tuple(name for name, invalid in rows if not invalid), tuple(name for name, invalid in rows if invalid)


def globals_of(cluster: Cluster, *, passwords: bool = True) -> tuple[bytes, str]:
    """Roles and tablespaces as SQL that psql with ON_ERROR_STOP restores; pg_dumpall's warnings."""
    options = ["--globals-only", *(() if passwords else ("--no-role-passwords",))]
    text, said = output_of(cluster, "pg_dumpall", options)
    head = Head(tolerant(SUPERUSER))
    return head.feed(text) + head.finish(), said


def dump(
    cluster: Cluster,
    plan: Plan,
    place: Path,
    outputs: Callable[[str], Output] = lambda _: Nowhere(),
    advance: Callable[[int], None] = lambda _: None,
) -> Dumped:
    """Dump globals and databases, using the private directory `place`. Names of outputs are `NUMBER/FILE`.

    Raises AtalaiaError with pg_dump's own words; Crossed when it is to be tried again with new outputs.
    """
    _check_room(place)
    text, said = globals_of(cluster, passwords=plan.passwords)
    done = _Databases(said=[f"globals: {line}" for line in said.splitlines()])
    for number, name in enumerate(plan.databases, 1):
        _patient(cluster, name, plan, place, _numbered(outputs, number, done), advance, done)
    return Dumped(text, done.found, "\n".join(done.said), tuple(done.nothing))


def _numbered(outputs: Callable[[str], Output], number: int, done: _Databases) -> Callable[[str], Output]:
    def output(name: str) -> Output:
        done.begun = True
        return outputs(f"{number:04d}/{name}")

    done.begun = False
    return output


def _patient(
    cluster: Cluster,
    name: str,
    plan: Plan,
    place: Path,
    outputs: Callable[[str], Output],
    advance: Callable[[int], None],
    done: _Databases,
) -> None:
    """Dump one database, anew when a DROP has crossed it before anything was written."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            followed, said = _database(cluster, name, plan, place / "dump", outputs, advance)
        except AtalaiaError as error:
            if _NOTHING.search(str(error)) and plan.options:
                done.nothing.append(name)
                return
            if not _DROPPED.search(str(error)):
                raise
            _log.warning(logfmt("backup_again", server=cluster.name, attempt=attempt, problem=error.what))
            if done.begun or attempt == ATTEMPTS or "database" in error.what.rpartition("FATAL")[2]:
                raise Crossed(error.what, error.remedy) from error
        else:
            done.found[name] = followed
            done.said += [f"{name}: {line}" for line in said.splitlines()]
            return


def _database(
    cluster: Cluster,
    name: str,
    plan: Plan,
    folder: Path,
    outputs: Callable[[str], Output],
    advance: Callable[[int], None],
) -> tuple[Followed, str]:
    shutil.rmtree(folder, ignore_errors=True)
    arguments = [
        *("--format=directory", f"--jobs={plan.jobs}", "--compress=0", "--no-sync", f"--file={folder}"),
        *(f"--lock-wait-timeout={LOCK_WAIT}", f"--dbname={conninfo(name)}", *plan.options),
    ]
    follower = Follower(folder, plan.jobs, outputs, lambda: _sizes(cluster, name), advance)
    with running(cluster, "pg_dump", arguments, -3) as program:
        try:
            followed = follower.follow(program)
        except OSError as error:
            raise AtalaiaError(
                f"the dump of {name} could not be read: {error.strerror or error}", "see the free room of the disk"
            ) from error
        said = program.outcome()
    _check(name, followed)
    output = outputs(tocs.NAME)
    output.write(memoryview(followed.toc))
    output.close({})
    shutil.rmtree(folder, ignore_errors=True)
    return followed, said


def _check(name: str, followed: Followed) -> None:
    """Raise AtalaiaError unless all that the contents promise has come."""
    contents = tocs.parse(followed.toc)
    missing = [tocs.full_name(entry) for entry in contents.data if entry.file not in followed.texts]
    if missing:
        raise AtalaiaError(
            f"the dump of the database {name} is not whole: rows of {missing[0]} are missing",
            "no backup was made; try again, and see the server's log",
        )


def _sizes(cluster: Cluster, name: str) -> dict[int, int]:
    """Bytes of a database's tables by OID, without those of other sorts."""
    with connect(cluster, name, autocommit=True) as connection:
        return dict(
            connection.execute(
                "SELECT oid::bigint, coalesce(pg_relation_size(oid), 0) FROM pg_class WHERE relkind IN ('r', 't', 'm')"
            ).fetchall()
        )


def _check_room(place: Path) -> None:
    free = shutil.disk_usage(place).free
    if free < _ROOM:
        raise AtalaiaError(
            f"{place} has {free} bytes of free room; a dump may need {_ROOM} on its way", "make room there"
        )


def total(cluster: Cluster, names: tuple[str, ...]) -> int:
    """About how many bytes a dump will have, for a progress bar."""
    try:
        with connect(cluster, autocommit=True) as connection:
            row = connection.execute(
                "SELECT sum(pg_database_size(datname)) FROM pg_database WHERE datname = ANY(%s)", (list(names),)
            ).fetchone()
    except psycopg.Error:
        return 0
    return int(row[0] or 0) if row else 0
