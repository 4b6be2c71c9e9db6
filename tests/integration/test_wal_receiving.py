"""WAL streamed from real servers into an archive, and recoveries that it feeds."""

from __future__ import annotations

from pathlib import Path

from tests.integration.wal_support import archive_of, base_backup, flushed, recovered, rows, sql, streaming

from atalaia.backup.model import Target
from atalaia.backup.site import Site
from atalaia.backup.wal.extent import gaps, ranges
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
    for target, expected in ((Target(), 4), (Target(name="here"), 3), (Target(lsn=middle), 2)):
        with recovered(site, server, folder / "base", details, target) as copy:
            assert rows(copy, "SELECT n FROM t ORDER BY n") == [(n + 1,) for n in range(expected)]
