"""Databases that a restore has made and not filled yet carry a comment that says so; the next one removes them."""

from __future__ import annotations

import os

from psycopg import sql

from atalaia.backup.model import Progress
from atalaia.backup.restoring.copying import drop_database
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.runtime.process import Process

_MARK = "atalaia: being restored by process "


def mark(cluster: Cluster, name: str) -> None:
    """Note that this process fills a database."""
    process = Process.of(os.getpid())
    assert process
    _comment(cluster, name, sql.Literal(f"{_MARK}{process.pid} {process.started}"))


def unmark(cluster: Cluster, name: str) -> None:
    """It is whole."""
    _comment(cluster, name, sql.SQL("NULL"))


def abandoned(cluster: Cluster) -> list[str]:
    """Databases whose restore was killed."""
    with connect(cluster, autocommit=True) as connection:
        found = connection.execute(
            "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database"
            " WHERE starts_with(shobj_description(oid, 'pg_database'), %s)",
            (_MARK,),
        ).fetchall()
    return [name for name, text in found if not _alive(text)]


def sweep(cluster: Cluster, progress: Progress) -> None:
    """Remove what killed restores have left."""
    for name in abandoned(cluster):
        drop_database(cluster, name)
        progress(f"removed the database {name} of {cluster.name}, left by a restore that was killed")


def _alive(text: str) -> bool:
    pid, _, started = text.removeprefix(_MARK).partition(" ")
    return pid.isdecimal() and started.isdecimal() and Process(int(pid), int(started)).alive()


def _comment(cluster: Cluster, name: str, text: sql.Composable) -> None:
    with connect(cluster, autocommit=True) as connection:
        connection.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), text))
