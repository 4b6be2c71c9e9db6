"""A restored server takes the place of an old one in one step, which lies aside and can come back."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from atalaia.backup import service
from atalaia.backup.model import ALL, Backup, State
from atalaia.backup.restoring import over
from atalaia.backup.restoring.plan import plan
from atalaia.backup.site import Site
from atalaia.cli import backup_over
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.load import Environment
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.postgres.temporary import running
from atalaia.supervisor import launch


def quiet(_: str) -> None:
    """Tell nobody."""


def rows(cluster: Cluster) -> int:
    with connect(cluster) as connection:
        row = connection.execute("SELECT count(*) FROM t").fetchone()
    assert row
    return int(row[0])


def stop(cluster: Cluster) -> None:
    process = control.postmaster(cluster)
    assert process
    assert control.stop(process)


@pytest.fixture
def server(new_server: Any, folder: Path) -> Cluster:
    made: Cluster = new_server()
    place = folder / "tablespace"
    place.mkdir()
    if made.account:
        os.chown(place, made.account.uid, made.account.gid)
    with connect(made, autocommit=True) as connection:
        connection.execute(f"CREATE TABLESPACE far LOCATION '{place}'".encode())
        connection.execute("CREATE TABLE t TABLESPACE far AS SELECT generate_series(1, 100) AS i")
    return made


@pytest.mark.parametrize("kind", ["plain", "physical"])
def test_the_old_server_lies_aside_and_can_come_back(server: Cluster, site: Site, kind: str) -> None:
    backup = service.backup_now(server, site, kind=kind, verify=False)
    with connect(server, autocommit=True) as connection:
        connection.execute("INSERT INTO t VALUES (0)")
    over.check(server, backup)
    over.prepare(site, backup, ALL, server, quiet)
    with pytest.raises(AtalaiaError, match="still runs"):
        over.swap(server)
    assert rows(server) == 101
    stop(server)

    aside = over.swap(server)

    assert aside.is_dir()
    assert not over.fresh_directory(server).exists()
    with running(server):
        # With the same password, port and name; its tablespace lies within it.
        assert rows(server) == 100
        with connect(server) as connection:
            found = connection.execute(
                "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'far'"
            ).fetchone()
        assert found
        assert Path(found[0]).is_relative_to(server.directory.resolve())
    over.swap_back(server, aside)
    with running(server):
        assert rows(server) == 101


def test_a_swap_that_was_ended_in_the_middle_loses_neither_server(server: Cluster, site: Site) -> None:
    backup = service.backup_now(server, site, kind="plain", verify=False)
    stop(server)
    over.prepare(site, backup, ALL, server, quiet)
    fresh = over.fresh_directory(server)
    over._exchange(fresh, server.directory)  # and then it was killed
    told: list[str] = []
    over.prepare(site, backup, ALL, server, told.append)
    (aside,) = server.directory.parent.glob(f"{server.name}.before-*")
    assert any(str(aside) in line for line in told)
    with running(replace(server, directory=aside)):
        assert rows(server) == 100


def a_backup(version: str) -> Backup:
    return Backup("postgres_a_1", "postgres_a", "plain", State.COMPLETE, datetime.now(UTC), version, version)


def test_another_major_version_is_refused(new_server: Any) -> None:
    server, backup = new_server(run=False), a_backup("15.1")
    with pytest.raises(InputError, match="is of PostgreSQL 15, and postgres_a is 16") as error:
        over.check(server, backup)
    assert "version = 15" in error.value.remedy


def test_one_that_does_not_start_gives_its_place_back(
    server: Cluster, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = service.backup_now(server, site, kind="plain", verify=False)
    held: list[str] = []

    @contextlib.contextmanager
    def hold(_: Environment, name: str) -> Iterator[None]:
        held.append(name)
        if process := control.postmaster(server):
            assert control.stop(process)
        yield

    def does_not_start(_: Environment, name: str) -> str:
        (server.data / "global" / "pg_control").unlink()
        return "PANIC: could not open control file"

    monkeypatch.setattr(launch, "held", hold)
    monkeypatch.setattr(launch, "await_ready", does_not_start)
    monkeypatch.setattr(launch, "running", lambda _: control.postmaster(server))
    planned = plan(site, backup, ALL, over.fresh_directory(server))
    with pytest.raises(AtalaiaError, match=r"did not start \(PANIC.*the old one is in its place again") as error:
        backup_over.replace_server(cast("Environment", None), site, planned, server, quiet)
    assert held == ["postgres_a", "postgres_a"]
    (failed,) = server.directory.parent.glob(f"{server.name}.failed-*")
    assert str(failed) in error.value.remedy
    with running(server):
        assert rows(server) == 100


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("typed", "option", "said"),
    [("postgres_a\n", None, ""), ("yes\n", None, "typed as 'yes'"), ("", "postgres_b", "typed as 'postgres_b'")],
)
def test_its_name_is_typed(
    new_server: Any, site: Site, monkeypatch: pytest.MonkeyPatch, typed: str, option: str | None, said: str
) -> None:
    server, backup = new_server(run=False), a_backup("16.1")
    planned = plan(site, backup, ALL, over.fresh_directory(server))
    screen = Terminal()
    monkeypatch.setattr("sys.stdin", Terminal(typed))
    monkeypatch.setattr("sys.stderr", screen)
    if said:
        with pytest.raises(InputError, match=said):
            backup_over.agreed(server, planned, option)
    else:
        backup_over.agreed(server, planned, option)
        assert str(server.directory) in screen.getvalue()
    monkeypatch.setattr("sys.stdin", io.StringIO("postgres_a\n"))
    with pytest.raises(InputError, match="not typed"):
        backup_over.agreed(server, planned, None)
