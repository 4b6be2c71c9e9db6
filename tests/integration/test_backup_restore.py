from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from backup_sample import ODD_DATABASES, dump_of, everything, fill

from atalaia.backup import catalogue, service
from atalaia.backup.model import State
from atalaia.backup.site import Site
from atalaia.environment.errors import InputError
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect, environment_variables
from atalaia.postgres.temporary import running, temporary
from atalaia.postgres.tools import variables


@pytest.mark.parametrize("major", [16, 18])
def test_what_is_restored_is_what_was_backed_up_column_by_column(new_server: Any, site: Site, major: int) -> None:
    server = new_server(major=major)
    fill(server)
    original = everything(server)
    told: list[str] = []

    backup = service.backup_now(server, site, told.append)

    assert backup.state is State.VERIFIED
    assert backup.verifications[0].passed
    assert backup.verifications[0].seconds > 0
    upper = backup.contents["databases"]["Upper"]
    assert upper["tables"]["shop.items"][0] == 2007
    assert upper["tables"]['shop.Odd; "name"'][0] == 50
    assert upper["tables"]["shop.nothing"] == [3, 3]
    assert upper["large_objects"] == 3
    assert upper["large_object_bytes"] == 100 + 256 * 1024
    assert set(backup.contents["databases"]) == {"postgres", "template1", *ODD_DATABASES}
    assert set(backup.contents["roles"]) == {"alice", "Bob Smith", "staff", "aa_before_postgres", "postgres"}
    assert list(site.temporary.iterdir()) == []

    restored = service.restore(site, backup.id, progress=told.append, keep_running=True)
    try:
        assert everything(restored.cluster) == original
        assert restored.process
        assert control.postmaster(restored.cluster) == restored.process
        assert restored.cluster.password_file.stat().st_mode & 0o777 == 0o600
        # It has its own password: the original's does not open it.
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(replace(restored.cluster, password_file=server.password_file))
    finally:
        assert restored.process
        control.stop(restored.process)


def test_the_dump_restores_with_plain_psql_that_stops_at_errors(server: Cluster, site: Site) -> None:
    fill(server, rows=100)
    backup = service.backup_now(server, site, verify=False)
    with temporary(server.installation, server.account, site.temporary) as fresh:
        done = subprocess.run(
            f"zstd -dc {dump_of(site, backup)} | {server.installation.program('psql')} -X "
            "-q -v ON_ERROR_STOP=1",
            shell=True, capture_output=True, text=True, env=variables(environment_variables(fresh)),
        )  # fmt: skip
        assert done.returncode == 0
        assert done.stderr == ""
        assert everything(fresh) == everything(server)


def test_the_commands_that_restore_prints_start_reach_and_stop_the_server(server: Cluster, site: Site) -> None:
    with connect(server) as connection:
        connection.execute("CREATE TABLE t AS SELECT generate_series(1, 10) AS n")
    backup = service.backup_now(server, site, verify=False)
    restored = service.restore(site, backup.id)
    start, psql, stop = restored.commands
    assert restored.process is None
    assert control.postmaster(restored.cluster) is None
    try:
        subprocess.run(start, shell=True, check=True, capture_output=True, cwd="/")
        said = subprocess.run(f"{psql} -Atc 'SELECT sum(n) FROM t'", shell=True, capture_output=True, text=True)
        assert said.stdout == "55\n"
    finally:
        subprocess.run(stop, shell=True, check=True, capture_output=True, cwd="/")
    assert control.postmaster(restored.cluster) is None


def test_nothing_is_restored_over_what_exists(server: Cluster, site: Site, folder: Path) -> None:
    backup = service.backup_now(server, site, verify=False)
    target = folder / "target"
    target.mkdir()
    (target / "precious").write_text("data")
    with pytest.raises(InputError, match="not empty"):
        service.restore(site, backup.id, target)
    assert (target / "precious").read_text() == "data"
    assert [path.name for path in target.iterdir()] == ["precious"]
    restored = service.restore(site, backup.id, folder / "new")
    with pytest.raises(InputError, match="not empty"):
        service.restore(site, backup.id, folder / "new")
    with running(restored.cluster):
        assert catalogue.get(site.catalogue, backup.id).state is State.COMPLETE


def test_tablespaces_are_made_inside_the_restored_server(server: Cluster, site: Site, folder: Path) -> None:
    place = folder / "my space"
    place.mkdir()
    if server.account:
        os.chown(place, server.account.uid, server.account.gid)
    with connect(server, autocommit=True) as connection:
        connection.execute(
            "CREATE TABLESPACE \"my space\" LOCATION '{}'".format(str(place).replace("'", "''")).encode()
        )
        connection.execute('CREATE TABLE far TABLESPACE "my space" AS SELECT generate_series(1, 1000) AS n')
    backup = service.backup_now(server, site)
    assert backup.state is State.VERIFIED
    restored = service.restore(site, backup.id)
    with running(restored.cluster), connect(restored.cluster) as connection:
        row = connection.execute(
            "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'my space'"
        ).fetchone()
        assert row == (str(restored.cluster.directory.resolve() / "tablespaces" / "0"),)
        assert connection.execute("SELECT count(*) FROM far").fetchone() == (1000,)


def test_repository_and_dumps_are_private(server: Cluster, site: Site) -> None:
    backup = service.backup_now(server, site, verify=False)
    assert site.repository.root.stat().st_mode & 0o777 == 0o700
    assert (site.repository.root / "postgres_a").stat().st_mode & 0o777 == 0o700
    assert (dump_of(site, backup)).stat().st_mode & 0o777 == 0o600
    assert site.catalogue.stat().st_mode & 0o777 == 0o600


def test_what_pg_dumpall_leaves_out_is_told(server: Cluster, site: Site) -> None:
    with connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE closed ALLOW_CONNECTIONS false")
        connection.execute("ALTER DATABASE postgres SET work_mem = '5MB'")
    backup = service.backup_now(server, site)
    assert backup.state is State.VERIFIED
    assert "closed allows no connections" in backup.messages
    assert "settings and privileges of the database postgres" in backup.messages
