"""What a restore has made in a running server for a time carries a comment that says so; the next one removes it.

Databases that are not filled yet, and roles that own what is in them and are not to stay.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Sequence

import psycopg
from psycopg import sql

from atalaia.backup.model import Progress, logfmt
from atalaia.backup.restoring.copying import drop_database
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.runtime.process import Process

_log = logging.getLogger("atalaia.backup")
_MARK = "atalaia: being restored by process "


def mark(cluster: Cluster, name: str) -> None:
    """Note that this process fills a database."""
    _comment(cluster, name, sql.Literal(_note()))


def unmark(cluster: Cluster, name: str) -> None:
    """It is whole."""
    _comment(cluster, name, sql.SQL("NULL"))


def abandoned(cluster: Cluster) -> list[str]:
    """Databases whose restore was killed."""
    return _abandoned(cluster, "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database")


def sweep(cluster: Cluster, progress: Progress) -> None:
    """Remove what killed restores have left."""
    for name in abandoned(cluster):
        drop_database(cluster, name)
        progress(f"removed the database {name} of {cluster.name}, left by a restore that was killed")
    drop_roles(cluster, _abandoned(cluster, "SELECT rolname, shobj_description(oid, 'pg_authid') FROM pg_roles"))


@contextlib.contextmanager
def lent(cluster: Cluster, database: str, roles: Sequence[str]) -> Iterator[list[str]]:
    """Roles that are there while a database is filled; what they own in it then belongs to the superuser.

    Yields a list that holds, at the end, those that were used. Raises psycopg.Error.
    """
    note = sql.Literal(_note())
    used: list[str] = []
    with connect(cluster) as connection:  # all or none: one that another has made meanwhile is not ours to drop
        for role in map(sql.Identifier, roles):
            connection.execute(sql.SQL("CREATE ROLE {}").format(role))
            connection.execute(sql.SQL("COMMENT ON ROLE {} IS {}").format(role, note))
    try:
        yield used
        with connect(cluster, database) as connection:
            found = connection.execute(
                "SELECT DISTINCT rolname FROM pg_roles r JOIN pg_shdepend d ON d.refobjid = r.oid"
                " AND d.refclassid = 'pg_authid'::regclass WHERE rolname = ANY(%s) ORDER BY 1",
                (list(roles),),
            ).fetchall()
            used += [name for (name,) in found]
            for role in map(sql.Identifier, used):
                connection.execute(sql.SQL("REASSIGN OWNED BY {} TO CURRENT_USER").format(role))
                connection.execute(sql.SQL("DROP OWNED BY {}").format(role))
            for role in map(sql.Identifier, roles):
                connection.execute(sql.SQL("DROP ROLE {}").format(role))
    except BaseException:
        drop_database(cluster, database)  # what they own is in it
        drop_roles(cluster, roles)
        raise


def drop_roles(cluster: Cluster, roles: Sequence[str]) -> None:
    """Remove roles that own nothing any more; what cannot be removed is told in the log."""
    try:
        with connect(cluster, autocommit=True) as connection:
            for role in roles:
                connection.execute(sql.SQL("DROP ROLE IF EXISTS {}").format(sql.Identifier(role)))
    except psycopg.Error as error:
        _log.warning(logfmt("roles_left", server=cluster.name, roles=" ".join(roles), problem=error))


def _abandoned(cluster: Cluster, query: str) -> list[str]:
    """Those names of a query's names and comments that a process which is gone has marked."""
    with connect(cluster, autocommit=True) as connection:
        found = connection.execute(query.encode()).fetchall()
    return [name for name, text in found if text and text.startswith(_MARK) and not _alive(text)]


def _note() -> str:
    process = Process.of(os.getpid())
    assert process
    return f"{_MARK}{process.pid} {process.started}"


def _alive(text: str) -> bool:
    pid, _, started = text.removeprefix(_MARK).partition(" ")
    return pid.isdecimal() and started.isdecimal() and Process(int(pid), int(started)).alive()


def _comment(cluster: Cluster, name: str, text: sql.Composable) -> None:
    with connect(cluster, autocommit=True) as connection:
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), text))
