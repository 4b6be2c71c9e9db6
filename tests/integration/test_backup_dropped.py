"""A database that was dropped comes back from just before that, although its files go before the DROP commits."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import psycopg
import pytest
from wal_support import flushed, sql, streaming

from atalaia.backup import service
from atalaia.backup.model import Selection, Target, Wanted
from atalaia.backup.restoring.into import Into, put
from atalaia.backup.site import Site
from atalaia.backup.wal import dropping
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.postgres.temporary import private, running

SHOP = Selection(databases=("shop",))


def rows(cluster: Cluster, database: str) -> list[Any]:
    with connect(cluster, database, autocommit=True) as connection:
        return connection.execute("SELECT i, t FROM orders ORDER BY i").fetchall()


def accident(cluster: Cluster, site: Site, *later: str, late: bool = False) -> datetime:
    """A database with rows of before and after the backup is dropped, with nothing between; the moment before.

    `late`: the WAL is archived only when all is over, so that its times of arrival say nothing.
    """
    statements = ("DROP DATABASE shop", *later, "SELECT pg_switch_wal()")
    with streaming(cluster, site) as received:
        with connect(cluster, "shop", autocommit=True) as connection:
            connection.execute("INSERT INTO orders SELECT i, 'after the backup' FROM generate_series(101, 200) i")
            moment: datetime = (connection.execute("SELECT clock_timestamp()").fetchone() or ())[0]
        if not late:
            sql(cluster, *statements)
            received.archived(flushed(cluster))
    if late:
        for number in range(3):
            sql(cluster, "SELECT pg_switch_wal()", f"CREATE TABLE t_{number} (i int)")
        moment = sql(cluster, "SELECT clock_timestamp()")
        sql(cluster, *statements)
        with streaming(cluster, site) as received:
            received.archived(flushed(cluster))
    return moment


def shop(cluster: Cluster) -> None:
    sql(cluster, "CREATE DATABASE shop CONNECTION LIMIT 7", "CREATE DATABASE other")
    with connect(cluster, "shop", autocommit=True) as connection:
        connection.execute("CREATE TABLE orders (i int PRIMARY KEY, t text)")
        connection.execute("INSERT INTO orders SELECT i, 'before the backup' FROM generate_series(1, 100) i")


@pytest.mark.parametrize(("major", "inclusive", "late"), [(16, False, True), (18, True, False)], ids=["before", "at"])
def test_a_dropped_database_comes_back(
    new_server: Any, site: Site, monkeypatch: pytest.MonkeyPatch, major: int, inclusive: bool, late: bool
) -> None:
    monkeypatch.setattr(dropping, "_AT_ONCE", 1)  # so that segments are looked at two by two
    server = new_server(major=major)
    shop(server)
    backup = service.backup_now(server, site, kind="physical", verify=False)
    original = rows(server, "shop") + [(i, "after the backup") for i in range(101, 201)]
    moment = accident(server, site, "CREATE TABLE later (i int)", late=late)
    told: list[str] = []

    done = put(site, backup, Wanted(Target(time=moment, inclusive=inclusive), SHOP), Into(server), told.append)

    assert done.databases == {"shop": True}
    assert rows(server, "shop") == original
    assert any("a DROP DATABASE is just before" in line for line in told)
    assert any("shop was being dropped" in line for line in told)
    assert list(site.temporary.iterdir()) == []


def test_a_whole_server_just_before_a_database_was_dropped(new_server: Any, site: Site) -> None:
    server = new_server()
    shop(server)
    backup = service.backup_now(server, site, kind="physical", verify=False)
    moment = accident(server, site, "CREATE TABLE later (i int)")
    wanted = Wanted(Target(time=moment, inclusive=False))
    done = service.restore(site, backup.id, site.restored / "new", wanted=wanted)
    with private(done.cluster) as hidden, running(hidden):
        assert len(rows(hidden, "shop")) == 200
        assert sql(hidden, "SELECT to_regclass('later')") is None
        sql(hidden, "DROP DATABASE shop")


def test_after_the_drop_it_is_gone_and_others_can_be_had(new_server: Any, site: Site) -> None:
    server = new_server()
    shop(server)
    backup = service.backup_now(server, site, kind="physical", verify=False)
    accident(server, site, "CREATE TABLE later (i int)")
    with streaming(server, site) as received:
        moment = sql(server, "SELECT clock_timestamp()")
        sql(server, "CREATE TABLE still_later (i int)", "SELECT pg_switch_wal()")
        received.archived(flushed(server))
    told: list[str] = []
    wanted = Wanted(Target(time=moment), Selection(databases=("other",)))
    put(site, backup, wanted, Into(server, "another"), told.append)
    assert not any("DROP DATABASE" in line for line in told)
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        rows(server, "shop")
