"""WAL streamed from real servers into an archive, and recoveries that it feeds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.integration.object_store import Fault, bucket, moto
from tests.integration.wal_support import archive_of, base_backup, flushed, recovered, rows, sql, streaming

from atalaia.backup.model import Target
from atalaia.backup.site import Site
from atalaia.backup.vault import keys
from atalaia.backup.vault.keys import WrongKey
from atalaia.backup.vault.remote import RemotePlace
from atalaia.backup.wal.extent import gaps, ranges
from atalaia.environment.backing import BackupsSettings
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import Cluster


def test_what_is_streamed_recovers(server: Cluster, site: Site, folder: Path) -> None:
    with streaming(server, site) as stream:
        details = base_backup(server, folder / "base")
        sql(server, "CREATE TABLE t AS SELECT 1 AS n", "SELECT pg_switch_wal()", "INSERT INTO t VALUES (2)")
        middle = flushed(server)
        sql(server, "INSERT INTO t VALUES (3)", "SELECT pg_create_restore_point('here')", "INSERT INTO t VALUES (4)")
        seen = stream.archived(flushed(server))
        assert seen.slot == "reserved"
    assert stream.status is not None
    assert stream.status.state == "stopped"
    archive = archive_of(site, server)
    assert len(ranges(archive)) == 1
    assert not gaps(archive)
    for target, expected in ((Target(), 4), (Target(lsn=middle), 2)):
        with recovered(site, server, folder / "base", details, target) as copy:
            assert rows(copy, "SELECT n FROM t ORDER BY n") == [(n + 1,) for n in range(expected)]


def test_a_time_after_which_nothing_happened_is_the_end_of_the_wal(server: Cluster, site: Site, folder: Path) -> None:
    with streaming(server, site) as stream:
        details = base_backup(server, folder / "base")
        sql(server, "CREATE TABLE t AS SELECT 1 AS n")
        quiet = sql(server, "SELECT clock_timestamp()")
        stream.wait(lambda seen: bool(seen.covered_until and seen.covered_until > quiet), "all is archived")
        archive_of(site, server).note_covered(datetime.now(UTC), flushed(server), 1)
    with recovered(site, server, folder / "base", details, Target(time=quiet)) as copy:
        assert rows(copy, "SELECT n FROM t") == [(1,)]
    beyond = datetime.now(UTC) + timedelta(seconds=1)
    with (
        pytest.raises(AtalaiaError, match=r"the archived WAL ends at .*, before"),
        recovered(site, server, folder / "base", details, Target(time=beyond)),
    ):
        pass


def test_an_encrypted_archive_recovers_and_a_wrong_key_says_so(server: Cluster, site: Site, folder: Path) -> None:
    ring = keys.Keyring((keys.new_key(),))
    keys.save(site.key_file, ring)
    site = replace(site, settings=BackupsSettings(kind="plain", encryption=True, compression="lz4"))
    with streaming(server, site) as stream:
        details = base_backup(server, folder / "base")
        sql(server, "CREATE TABLE secrets AS SELECT 'xyzzy-plugh' AS n FROM generate_series(1, 100)")
        stream.archived(flushed(server))
    for path in (folder / "repository").rglob("0*"):
        assert path.is_dir() or b"xyzzy-plugh" not in path.read_bytes()
    with recovered(site, server, folder / "base", details, Target()) as copy:
        assert rows(copy, "SELECT count(*) FROM secrets") == [(100,)]
    keys.save(site.key_file, keys.Keyring((keys.new_key(),)))
    with pytest.raises(WrongKey), recovered(site, server, folder / "base", details, Target()):
        pass


def test_wal_goes_to_an_object_store_that_fails_now_and_then(server: Cluster, site: Site, folder: Path) -> None:
    with moto() as s3, bucket(s3) as store:
        site = replace(site, repository=RemotePlace(store.address, store.options, 2))
        with streaming(server, site) as stream:
            details = base_backup(server, folder / "base")
            sql(server, "CREATE TABLE t AS SELECT 1 AS n")
            stream.archived(flushed(server))
            store.fault = lambda method, path, number: Fault(503)
            sql(server, "INSERT INTO t VALUES (2)", "SELECT pg_switch_wal()", "INSERT INTO t VALUES (3)")
            stream.wait(lambda seen: seen.state == "spooling" and "s3://" in seen.problem, "that it fails is told")
            store.fault = lambda method, path, number: None
            stream.archived(flushed(server), 60)
        archive = archive_of(site, server)
        assert len(ranges(archive)) == 1
        with recovered(site, server, folder / "base", details, Target()) as copy:
            assert rows(copy, "SELECT n FROM t ORDER BY n") == [(1,), (2,), (3,)]
