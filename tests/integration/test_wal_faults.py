"""What streaming and recovery do when servers restart, repositories go away, WAL is lost or damaged."""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest
from tests.integration.conftest import end
from tests.integration.wal_support import archive_of, base_backup, flushed, recovered, rows, sql, streaming

from atalaia.backup.model import Target
from atalaia.backup.site import Site
from atalaia.backup.vault.local import LocalPlace
from atalaia.backup.wal import receiving, segment
from atalaia.backup.wal.archive import OPEN
from atalaia.backup.wal.extent import gaps, ranges
from atalaia.environment.backing import BackupsSettings, WalSettings
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster

SWITCH = "SELECT pg_switch_wal()"


def test_servers_may_restart_while_their_wal_is_streamed(server: Cluster, site: Site, folder: Path) -> None:
    with streaming(server, site) as stream:
        details = base_backup(server, folder / "base")
        sql(server, "CREATE TABLE t (n int)")
        for number, how in enumerate((signal.SIGINT, signal.SIGKILL, signal.SIGQUIT)):
            sql(server, f"INSERT INTO t VALUES ({number})", SWITCH)
            process = control.postmaster(server)
            assert process
            process.send(how)
            assert process.wait(20)
            process.reap()
            stream.wait(lambda seen: seen.state == "waiting" and bool(seen.problem), "that the server is away is told")
            control.wait_ready(server, control.start(server))
        sql(server, "INSERT INTO t VALUES (3)")
        stream.archived(flushed(server))
    archive = archive_of(site, server)
    assert len(ranges(archive)) == 1
    with recovered(site, server, folder / "base", details, Target()) as copy:
        assert rows(copy, "SELECT n FROM t ORDER BY n") == [(0,), (1,), (2,), (3,)]


def test_a_repository_that_is_away_holds_nothing_up(server: Cluster, site: Site, folder: Path) -> None:
    place = folder / "repository"
    with streaming(server, site) as stream:
        details = base_backup(server, folder / "base")
        sql(server, "CREATE TABLE t (n int)")
        stream.archived(flushed(server))
        place.rename(folder / "away")
        place.write_text("a file in its place")
        sql(server, "INSERT INTO t VALUES (1)", SWITCH, "INSERT INTO t VALUES (2)", SWITCH, "INSERT INTO t VALUES (3)")
        seen = stream.wait(lambda s: s.state == "spooling" and s.spool_bytes >= 2 << 24, "the spool fills")
        assert "repository" in seen.problem
        assert seen.slot == "reserved"
        place.unlink()
        (folder / "away").rename(place)
        seen = stream.archived(flushed(server))
        assert not seen.spool_bytes
        stream.wait(lambda s: s.state == "streaming" and not s.problem and s.lag_bytes == 0, "all is well again")
    assert len(ranges(archive_of(site, server))) == 1
    with recovered(site, server, folder / "base", details, Target()) as copy:
        assert rows(copy, "SELECT n FROM t ORDER BY n") == [(1,), (2,), (3,)]


def test_a_full_spool_stops_streaming_and_the_server_keeps_the_rest(server: Cluster, site: Site, folder: Path) -> None:
    site = _with(site, keep="1GiB", spool="20MiB")
    place = folder / "repository"
    with streaming(server, site) as stream:
        stream.archived(flushed(server))
        place.rename(folder / "away")
        place.write_text("a file in its place")
        for _ in range(4):
            sql(server, "SELECT pg_logical_emit_message(true, 'a', 'b')", SWITCH)
            time.sleep(0.3)
        stream.wait(lambda s: s.state == "full" and "spool is full" in s.problem, "the spool is full")
        spooled = sum(path.stat().st_size for path in (folder / "wal").rglob("0*"))
        assert spooled <= (20 << 20) + 3 * (16 << 20)
        place.unlink()
        (folder / "away").rename(place)
        stream.archived(flushed(server), seconds=60)
    assert len(ranges(archive_of(site, server))) == 1


def test_a_receiver_that_is_away_too_long_never_fills_the_servers_disk(
    server: Cluster, site: Site, folder: Path
) -> None:
    site = _with(site, keep="20MiB", spool="1GiB")
    with streaming(server, site) as stream:
        stream.archived(flushed(server))
    assert sql(server, "SELECT pg_size_bytes(current_setting('max_slot_wal_keep_size'))") == 20 << 20
    for _ in range(5):
        sql(server, "SELECT pg_logical_emit_message(true, 'a', 'b')", SWITCH)
    sql(server, "CHECKPOINT")
    assert sql(server, "SELECT wal_status FROM pg_replication_slots") == "lost"
    older = "SELECT count(*) FROM pg_ls_waldir() WHERE name < pg_walfile_name(pg_current_wal_lsn())"
    assert sql(server, older) <= 2
    with streaming(server, site) as stream:
        sql(server, "SELECT pg_logical_emit_message(true, 'a', 'b')")
        seen = stream.archived(flushed(server))
        assert seen.slot == "reserved"
        seen = stream.wait(lambda s: bool(s.interruptions), "the hole is told")
        assert any("was lost" in line for line in stream.told)
        assert any("make a new physical backup" in line for line in stream.told)
    (hole,) = gaps(archive_of(site, server))
    assert [str(hole) in told for told in seen.interruptions] == [True]


def test_a_server_that_was_recovered_goes_on_in_the_same_archive(server: Cluster, site: Site, folder: Path) -> None:
    base = folder / "base"
    with streaming(server, site) as stream:
        details = base_backup(server, base)
        sql(server, "CREATE TABLE t AS SELECT 1 AS n", SWITCH)
        good = flushed(server)
        sql(server, "INSERT INTO t VALUES (2)", SWITCH, "INSERT INTO t VALUES (3)", SWITCH, "INSERT INTO t VALUES (4)")
        stream.archived(flushed(server))
    end(server)
    with recovered(site, server, base, details, Target(lsn=good)) as copy:
        # It takes the place of the server, under its name.
        again = Cluster(**{name: getattr(copy, name) for name in copy.__slots__} | {"name": server.name})
        with streaming(again, site) as stream:
            assert sql(again, "SELECT count(*) FROM t") == 1
            sql(again, "INSERT INTO t VALUES (22)", SWITCH, "INSERT INTO t VALUES (23)")
            end_lsn = flushed(again)
            seen = stream.archived(end_lsn)
            assert seen.timeline == 2
            assert segment.lsn(seen.archived_lsn) < segment.lsn(end_lsn) + (1 << 24)
            assert not seen.interruptions
            second = base_backup(again, folder / "second")
            sql(again, "INSERT INTO t VALUES (24)")
            stream.archived(flushed(again))
        archive = archive_of(site, again)
        assert not gaps(archive)
        assert archive.histories == {2}
    for start, target, expected in (
        ((base, details), Target(), [1, 22, 23, 24]),
        ((base, details), Target(timeline="current"), [1, 2, 3, 4]),
        ((folder / "second", second), Target(), [1, 22, 23, 24]),
    ):
        with recovered(site, server, *start, target) as copy:
            assert rows(copy, "SELECT n FROM t ORDER BY n") == [(n,) for n in expected]
            assert sql(copy, "SELECT timeline_id FROM pg_control_checkpoint()") == 3


def _stream_here(cluster: Cluster, site: Site) -> None:
    receiving.receive(cluster, site, threading.Event(), print, every=0.05)


def test_a_killed_receiver_leaves_no_hole_and_nothing_twice(server: Cluster, site: Site, folder: Path) -> None:
    seed = int(os.environ.get("ATALAIA_SEED", random.SystemRandom().randrange(10**6)))
    print(f"ATALAIA_SEED={seed}")
    chance = random.Random(seed)
    spawn = multiprocessing.get_context("spawn")
    with streaming(server, site) as stream:
        details = base_backup(server, folder / "base")
        sql(server, "CREATE TABLE t (n int)")
        stream.archived(flushed(server))
    for number in range(20 if os.environ.get("ATALAIA_SOAK") else 3):
        process = spawn.Process(target=_stream_here, args=(server, site))
        process.start()
        deadline = time.monotonic() + 0.5 + chance.random()
        while time.monotonic() < deadline:
            sql(server, f"INSERT INTO t VALUES ({number})", *([SWITCH] if chance.random() < 0.3 else []))
        process.kill()
        process.join()
        process.close()
    with streaming(server, site) as stream:
        stream.archived(flushed(server))
    archive = archive_of(site, server)
    assert len(ranges(archive)) == 1
    assert not [path for path in (folder / "repository").rglob("*" + OPEN) if path.with_suffix("").exists()]
    expected = rows(server, "SELECT n, count(*) FROM t GROUP BY n ORDER BY n")
    with recovered(site, server, folder / "base", details, Target()) as copy:
        assert rows(copy, "SELECT n, count(*) FROM t GROUP BY n ORDER BY n") == expected


@pytest.fixture
def archived(server: Cluster, site: Site, folder: Path) -> dict[str, object]:
    """Five segments, each with a row; the base backup lies in `base`."""
    with streaming(server, site) as stream:
        details = base_backup(server, folder / "base")
        sql(server, "CREATE TABLE t (n int)")
        for number in range(4):
            sql(server, f"INSERT INTO t VALUES ({number})", f"SELECT pg_create_restore_point('r{number}')", SWITCH)
        stream.archived(flushed(server))
    return details


def _object(site: Site, number: int) -> Path:
    assert isinstance(site.repository, LocalPlace)
    return sorted(site.repository.root.rglob("0000000100000000000000*"))[number]


def test_recovery_never_gives_less_than_was_asked_for(
    server: Cluster, site: Site, folder: Path, archived: dict[str, object]
) -> None:
    def refused(target: Target, why: str) -> None:
        with pytest.raises(AtalaiaError, match=why), recovered(site, server, folder / "base", archived, target):
            pass

    # Beyond the archive.
    refused(Target(name="nowhere"), r"the archived WAL ends at .*'nowhere'")
    refused(Target(lsn="FF/0"), r"ends at .* before the LSN FF/0")
    refused(Target(timeline="7"), "timeline 7 does not go on")
    # Damaged: recovery stops there, and reaches what lies before.
    last = flushed(server)
    path = _object(site, 4)
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    for target in (Target(), Target(name="r3")):
        refused(target, f"{path.name}.*has changed")
    # Missing.
    path.unlink()
    (hole,) = gaps(archive_of(site, server))
    assert hole.first == hole.last
    refused(Target(), "is missing from")
    refused(Target(name="r3"), "is missing from")
    refused(Target(lsn=last), "some between is missing")
    with recovered(site, server, folder / "base", archived, Target(name="r0")) as copy:
        assert rows(copy, "SELECT n FROM t") == [(0,)]
    _other_contents(server, site)


def _other_contents(server: Cluster, site: Site) -> None:
    """Another server of the name never mixes its WAL in."""
    before = archive_of(site, server)
    name = max(before.wholes).name
    raw = before.read(name)
    other = bytearray(raw)
    other[24] ^= 1  # the system identifier
    with pytest.raises(AtalaiaError, match="is WAL of the system"):
        before.store(max(before.wholes).next.name, bytes(other), before.received(name))
    changed = bytearray(raw)
    changed[9000] ^= 1
    with pytest.raises(AtalaiaError, match="with other contents"):
        before.store(name, bytes(changed), before.received(name))
    assert before.store(name, raw, before.received(name)) is False


def test_an_old_copy_of_a_server_is_refused(
    server: Cluster, site: Site, folder: Path, archived: dict[str, object]
) -> None:
    end(server)
    shutil.rmtree(server.data)
    shutil.copytree(folder / "base", server.data, symlinks=True)
    if server.account:
        for path in (server.data, *server.data.rglob("*")):
            shutil.chown(path, server.account.uid, server.account.gid)
    server.data.chmod(0o700)
    control.wait_ready(server, control.start(server))
    before = ranges(archive_of(site, server))
    stop = threading.Event()
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        if "old copy" in line:
            stop.set()

    guard = threading.Timer(30, stop.set)
    guard.start()
    receiving.receive(server, site, stop, tell)
    guard.cancel()
    assert any("an old copy of it was started" in line for line in told), told
    assert ranges(archive_of(site, server)) == before


def _with(site: Site, **wal: str) -> Site:
    return Site(
        **{name: getattr(site, name) for name in site.__slots__}
        | {"settings": BackupsSettings(kind="plain", wal=WalSettings(**wal))}
    )


def test_segments_have_the_names_that_the_server_gives_them(server: Cluster) -> None:
    name, position = rows(server, "SELECT pg_walfile_name('A7/12345678'), 'A7/12345678'")[0]
    assert segment.at(1, segment.lsn(position), 16 << 20).name == name
