"""Physical backups of real servers: what is restored is what was backed up, whole, incremental, or one database."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from backup_sample import ODD_DATABASES, everything, fill
from tests.integration.wal_support import flushed, streaming

from atalaia.backup import catalogue, service
from atalaia.backup.kinds import KINDS
from atalaia.backup.model import Backup, Selection, State, Target, Wanted
from atalaia.backup.physical import journal
from atalaia.backup.site import Site
from atalaia.backup.vault.place import Damaged
from atalaia.backup.vault.reader import open_backup
from atalaia.environment.backing import BackupsSettings
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.postgres.temporary import end_abandoned, running, vacant


@pytest.fixture
def site(site: Site) -> Site:
    return replace(site, settings=BackupsSettings(kind="physical"))


def run(server: Cluster, *statements: str, database: str = "postgres") -> Any:
    with connect(server, database, autocommit=True) as connection:
        for statement in statements:
            cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else None


def tablespace(server: Cluster, place: Path) -> Path:
    """Make the tablespace `elsewhere`."""
    place.mkdir()
    if server.account:
        os.chown(place, server.account.uid, server.account.gid)
    run(server, f"CREATE TABLESPACE elsewhere LOCATION '{place}'")
    return place


@contextlib.contextmanager
def filled(site: Site, backup: Backup, wanted: Wanted | None = None) -> Iterator[Cluster]:
    """A backup restored as is wanted, not running."""
    with vacant(site.installation(backup.major), site.account, site.temporary) as empty:
        cluster = replace(empty, listen=("127.0.0.1",), port=_port(), settings={"fsync": False})
        fill_it(site, backup, cluster, wanted or Wanted())
        (cluster.directory / "unfinished").unlink()
        yield cluster


def fill_it(site: Site, backup: Backup, cluster: Cluster, wanted: Wanted, progress: Any = lambda line: None) -> None:
    reader = open_backup(site.repository, backup.folder, site.keyring(), backup.sha256)
    KINDS["physical"].fill(site, backup, reader, cluster, wanted, progress)


def _port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("major", [15, 16, 18])
def test_what_is_restored_is_what_was_backed_up_column_by_column(
    new_server: Any, site: Site, folder: Path, major: int
) -> None:
    server: Cluster = new_server(major=major, settings={"fsync": False, "max_prepared_transactions": 5})
    fill(server, rows=200)
    place = tablespace(
        server, folder / ("a name that is longer than a tar header allows for the target of a link " * 2)
    )
    run(
        server,
        "CREATE TABLE far (a int) TABLESPACE elsewhere",
        "INSERT INTO far SELECT generate_series(1, 10000)",
        "CREATE SCHEMA quick",
        "CREATE UNLOGGED TABLE quick.unlogged AS SELECT 1 AS a",
        "ALTER SYSTEM SET archive_command = 'touch /tmp/never'",
        "ALTER SYSTEM SET synchronous_standby_names = ''",
    )
    with connect(server) as connection:
        connection.execute("INSERT INTO far VALUES (-1)")
        connection.execute("PREPARE TRANSACTION 'open'")
    with (server.data / "pg_ident.conf").open("a") as file:
        file.write("# the original's\n")
    original = everything(server)
    told: list[str] = []

    backup = service.backup_now(server, site, told.append)

    assert backup.state is State.VERIFIED
    assert set(backup.contents["databases"]) == {"postgres", "template0", "template1", *ODD_DATABASES}
    assert "table shop.items" in backup.contents["databases"]["Upper"]["objects"]
    assert 'role "Bob Smith"' in backup.contents["roles"]
    assert backup.details["tablespaces"][0]["location"] == str(place)
    assert backup.details["timeline"] == 1
    assert backup.details["checksums"] is True
    assert list(site.temporary.iterdir()) == []

    restored = service.restore(site, backup.id, progress=told.append, keep_running=True)
    try:
        assert "left out of the copy's settings: archive_command = touch /tmp/never" in told
        assert everything(restored.cluster) == original
        assert (restored.cluster.data / "pg_ident.conf").read_text().endswith("# the original's\n")
        assert run(restored.cluster, "SELECT count(*) FROM far") == [(10000,)]
        assert run(restored.cluster, "COMMIT PREPARED 'open'", "SELECT min(a) FROM far") == [(-1,)]
        assert run(restored.cluster, "SELECT count(*) FROM quick.unlogged") == [(0,)]
        ((where,),) = run(restored.cluster, "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE oid >= 16384")
        assert Path(where).is_relative_to(restored.cluster.directory.resolve())
        # A time line of its own: nothing that it writes can be taken for the original's.
        assert run(restored.cluster, "SELECT timeline_id FROM pg_control_checkpoint()") == [(2,)]
        assert run(restored.cluster, "SHOW archive_command") != [("touch /tmp/never",)]
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(replace(restored.cluster, password_file=server.password_file))
    finally:
        assert restored.process
        control.stop(restored.process)
    assert everything(server) == original


def test_an_incremental_backup_restores_with_all_that_it_builds_on(new_server: Any, site: Site, folder: Path) -> None:
    server: Cluster = new_server(major=18, settings={"fsync": False, "summarize_wal": True})
    tablespace(server, folder / "else=where")
    run(
        server,
        "CREATE TABLE kept AS SELECT i, md5(i::text) AS t FROM generate_series(1, 50000) i",
        "CREATE TABLE shrunk TABLESPACE elsewhere AS SELECT * FROM kept",
        "CREATE TABLE gone AS SELECT * FROM kept",
    )
    told: list[str] = []
    full = service.backup_now(server, site, told.append, incremental=True, verify=False)
    assert full.parent == ""
    assert "a full backup was made: there is no physical backup of it yet" in full.messages
    run(
        server,
        "UPDATE kept SET t = 'changed' WHERE i % 1000 = 0",
        "DELETE FROM shrunk WHERE i > 100",
        "VACUUM shrunk",
        "DROP TABLE gone",
        "CREATE DATABASE later",
    )
    first = service.backup_now(server, site, told.append, incremental=True, verify=False)
    run(server, "INSERT INTO kept SELECT i, 'new' FROM generate_series(1, 20000) i", "TRUNCATE shrunk")
    run(server, "CREATE TABLE here AS SELECT 1 AS a", database="later")
    original = everything(server)
    second = service.backup_now(server, site, told.append, incremental=True)

    assert (first.parent, second.parent) == (full.id, first.id)
    assert second.state is State.VERIFIED
    assert first.raw_size < full.raw_size * 0.8
    with filled(site, second) as cluster, running(cluster):
        assert everything(cluster) == original
        assert not (cluster.directory / "chain").exists()
        ((where,),) = run(cluster, "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE oid >= 16384")
        assert Path(where).is_relative_to(cluster.directory.resolve())

    # What a chain needs and does not have is named.
    (pack,) = (site.repository.root / first.folder).glob("data-*.pack")  # type: ignore[attr-defined]
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    broken = f"{second.id} builds on {first.id}, which cannot be used: .*has changed"
    with pytest.raises(Damaged, match=broken), filled(site, second):
        pass
    assert service.verify(site, [second.id])[0].state is State.FAILED
    assert first.id in catalogue.get(site.catalogue, second.id).error
    with filled(site, full) as cluster, running(cluster):
        assert run(cluster, "SELECT count(*) FROM gone") == [(50000,)]


def test_what_cannot_be_incremental_is_refused_or_made_full_and_said(new_server: Any, site: Site) -> None:
    old: Cluster = new_server("old", major=16)
    with pytest.raises(InputError, match="makes no incremental backups"):
        service.backup_now(old, site, incremental=True)
    with pytest.raises(InputError, match="a plain backup cannot be incremental"):
        service.backup_now(old, site, kind="plain", incremental=True)
    server: Cluster = new_server(major=18)
    with pytest.raises(InputError, match="keeps no WAL summaries") as refused:
        service.backup_now(server, site, incremental=True)
    assert "summarize_wal" in refused.value.remedy
    service.backup_now(server, site, verify=False)
    # Summaries begin after that backup: what changed before is not known.
    run(server, "CREATE TABLE t AS SELECT generate_series(1, 1000)", "ALTER SYSTEM SET summarize_wal = on")
    run(server, "SELECT pg_reload_conf()", "SELECT pg_switch_wal()", "CHECKPOINT")
    made = service.backup_now(server, site, incremental=True, verify=False)
    assert made.parent or "a full backup was made: " in made.messages
    with filled(site, made) as cluster, running(cluster):
        assert run(cluster, "SELECT count(*) FROM t") == [(1000,)]


def test_one_database_is_had_without_the_room_that_the_others_take(server: Cluster, site: Site) -> None:
    fill(server, rows=100)
    run(server, "CREATE TABLE large AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)", database="quo\"te's")
    original = everything(server)
    backup = service.backup_now(server, site, verify=False)

    with (
        pytest.raises(InputError, match="has no database nowhere"),
        filled(site, backup, Wanted(selection=Selection(("nowhere",)))),
    ):
        pass
    told: list[tuple[int, int]] = []

    class Told:
        def __call__(self, line: str) -> None:
            pass

        def advance(self, what: str, done: int, total: int) -> None:
            told.append((done, total))

    with vacant(site.installation(16), site.account, site.temporary) as empty:
        cluster = replace(empty, listen=("127.0.0.1",), port=_port())
        fill_it(site, backup, cluster, Wanted(selection=Selection(("Upper",))), Told())
        (cluster.directory / "unfinished").unlink()
        with running(cluster):
            found = everything(cluster)
            assert set(found) == {"postgres", "template1", "Upper"}
            for name, content in found.items():
                left = {what: rows for what, rows in content.items() if what != "databases"}
                assert left == {what: original[name][what] for what in left}
    assert told[-1][0] == told[-1][1] < backup.raw_size - 15_000_000


def test_an_interrupted_restore_goes_on_where_it_was(server: Cluster, site: Site) -> None:
    run(server, "CREATE TABLE t AS SELECT md5(i::text) FROM generate_series(1, 300000) i")
    backup = service.backup_now(server, site, verify=False)
    total = [0, 0]

    class Interrupting:
        def __init__(self, after: int) -> None:
            self.after, self.calls = after, 0

        def __call__(self, line: str) -> None:
            if self.after == -1 and "left out" in line:
                raise KeyboardInterrupt

        def advance(self, what: str, done: int, all_of_it: int) -> None:
            self.calls += 1
            total[:] = [done, all_of_it]
            if self.calls == self.after:
                raise KeyboardInterrupt

    with vacant(site.installation(16), site.account, site.temporary) as empty:
        cluster = replace(empty, listen=("127.0.0.1",), port=_port())
        with pytest.raises(KeyboardInterrupt):
            fill_it(site, backup, cluster, Wanted(jobs=1), Interrupting(6))
        whole = total[1]
        # As a kill -9 would leave it: what came after the last note is done again.
        noted = journal.Journal(cluster.directory / journal.NAME, "")
        assert noted.path.is_file()
        before = noted.path.read_text()
        assert '"phase": "files"' in before
        fill_it(site, backup, cluster, Wanted(jobs=1), Interrupting(0))
        assert total[1] < whole
        assert not noted.path.exists()
        (cluster.directory / "unfinished").unlink()
        with running(cluster):
            assert run(cluster, "SELECT count(*) FROM t") == [(300000,)]


def test_a_restore_interrupted_during_recovery_recovers_again(server: Cluster, site: Site) -> None:
    run(server, "CREATE TABLE t AS SELECT generate_series(1, 1000)", "CREATE DATABASE extra")
    run(server, "CREATE PUBLICATION p")
    backup = service.backup_now(server, site, verify=False)
    with vacant(site.installation(16), site.account, site.temporary) as empty:
        cluster = replace(empty, listen=("127.0.0.1",), port=_port())
        wrong = Wanted(selection=Selection(("postgres",)), target=None)
        # The password's file has gone: recovery is done, and what comes after it fails.
        password = cluster.password_file.read_text()
        cluster.password_file.unlink()
        with pytest.raises(FileNotFoundError):
            fill_it(site, backup, cluster, wrong)
        cluster.password_file.write_text(password)
        end_abandoned(cluster.directory)
        fill_it(site, backup, cluster, wrong)
        (cluster.directory / "unfinished").unlink()
        with running(cluster):
            assert run(cluster, "SELECT count(*) FROM t") == [(1000,)]
            assert run(cluster, "SELECT 1 FROM pg_database WHERE datname = 'extra'") == []


def test_a_target_is_refused_before_anything_is_done(server: Cluster, site: Site) -> None:
    backup = service.backup_now(server, site, verify=False)
    with vacant(site.installation(16), site.account, site.temporary) as cluster:
        with pytest.raises(InputError, match="lies before the end of"):
            fill_it(site, backup, cluster, Wanted(target=Target(lsn=backup.details["start_lsn"])))
        assert not cluster.data.exists()


def test_a_backup_of_a_server_that_is_written_to_is_of_one_moment(server: Cluster, site: Site) -> None:
    run(server, "CREATE TABLE left_ (a bigint primary key)", "CREATE TABLE right_ (a bigint primary key)")
    stop, failed = threading.Event(), []

    def work() -> None:
        number = 0
        try:
            with connect(server, autocommit=True) as connection:
                while not stop.is_set():
                    number += 1
                    with connection.transaction():
                        for table in ("left_", "right_"):
                            connection.execute(f"INSERT INTO {table} VALUES (%s)".encode(), (number,))
                    # Comes and goes: it may be in the backup or not.
                    connection.execute(b"CREATE TABLE passing AS SELECT 1 AS a")
                    connection.execute(b"DROP TABLE passing")
        except BaseException as error:  # noqa: BLE001 - the test must hear of it
            failed.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    try:
        backup = service.backup_now(server, site)
    finally:
        stop.set()
        worker.join()
    assert not failed
    assert backup.state is State.VERIFIED
    with filled(site, backup) as cluster, running(cluster):
        ((rows, last, same),) = run(
            cluster, "SELECT count(*), max(a), (SELECT count(*) FROM left_ JOIN right_ USING (a)) FROM left_"
        )
        assert rows == last == same
        assert rows > 0


def test_a_moment_after_the_backup_is_had_from_the_archived_wal(server: Cluster, site: Site) -> None:
    run(server, "CREATE TABLE t (a int)", "CREATE DATABASE other", "CREATE DATABASE third")
    run(server, "CREATE TABLE o AS SELECT generate_series(1, 50000) AS a", database="other")
    site.repository.put("note", b"not empty")  # an empty repository counts as one that is not mounted
    with streaming(server, site) as stream:
        backup = service.backup_now(server, site, verify=False)
        run(server, "INSERT INTO t VALUES (1)", "SELECT pg_create_restore_point('one')", "INSERT INTO t VALUES (2)")
        ((moment,),) = run(server, "SELECT clock_timestamp()")
        run(server, "UPDATE o SET a = -a", database="other")
        run(server, "INSERT INTO t VALUES (3)", "SELECT pg_create_restore_point('end')")
        stream.archived(flushed(server))

    def found(target: Target, databases: tuple[str, ...] = ()) -> list[int]:
        wanted = Wanted(target, Selection(databases))
        with filled(site, backup, wanted) as cluster, running(cluster):
            names = {name for (name,) in run(cluster, "SELECT datname FROM pg_database WHERE oid >= 16384")}
            assert names == set(databases or ("other", "third"))
            if "other" in names:
                positive = bool(target.time or target.lsn or target.name == "one")
                assert run(cluster, "SELECT min(a) > 0, count(*) FROM o", database="other") == [(positive, 50000)]
            return [a for (a,) in run(cluster, "SELECT a FROM t ORDER BY a")]

    assert found(Target(name="one")) == [1]
    assert found(Target(time=moment), ("other",)) == [1, 2]
    # What changed in the databases that are not wanted is replayed over files that are empty.
    assert found(Target(name="end"), ("third",)) == [1, 2, 3]
    assert found(Target()) == [1, 2, 3]
    with pytest.raises(AtalaiaError, match=r"before .*nowhere.* was reached"):
        found(Target(name="nowhere"))
    with pytest.raises(InputError, match="the archived WAL of postgres_a ends at"):
        found(Target(lsn="FF/0"))


def test_a_damaged_page_fails_the_backup_with_the_reason(server: Cluster, site: Site) -> None:
    run(server, "CREATE TABLE t AS SELECT generate_series(1, 100000) AS a", "CHECKPOINT")
    ((path,),) = run(server, "SELECT pg_relation_filepath('t')")
    process = control.postmaster(server)
    assert process
    assert control.stop(process)
    with (server.data / path).open("r+b") as file:
        file.seek(20 * 8192 + 4000)
        file.write(b"\xff\x00\xff")
    control.wait_ready(server, control.start(server))

    with pytest.raises(AtalaiaError, match="checksum verification fail") as failed:
        service.backup_now(server, site)

    assert path.rsplit("/", 1)[-1] in failed.value.what
    (row,) = catalogue.list_backups(site.catalogue)
    assert row.state is State.FAILED
    assert list(site.repository.objects()) == []


def test_a_server_that_is_stopped_during_the_backup_fails_it_cleanly(server: Cluster, site: Site) -> None:
    run(server, "CREATE TABLE t AS SELECT md5(i::text) FROM generate_series(1, 500000) i", "CHECKPOINT")
    process = control.postmaster(server)
    assert process

    class Stopping:
        def __call__(self, line: str) -> None:
            pass

        def advance(self, what: str, done: int, total: int) -> None:
            if control.postmaster(server):
                control.stop(process, 0.01)

    with pytest.raises(AtalaiaError, match="the base backup of postgres_a failed: "):
        service.backup_now(server, site, Stopping())

    (row,) = catalogue.list_backups(site.catalogue)
    assert row.state is State.FAILED
    assert list(site.repository.objects()) == []
    control.wait_ready(server, control.start(server))
    assert service.backup_now(server, site).state is State.VERIFIED


def test_a_server_that_allows_no_physical_backup_is_told_what_to_set(new_server: Any, site: Site) -> None:
    server: Cluster = new_server(settings={"fsync": False, "wal_level": "minimal", "max_wal_senders": 0})
    with pytest.raises(InputError, match="wal_level = minimal"):
        service.backup_now(server, site)


def test_a_restored_server_that_differs_is_no_proof(server: Cluster, site: Site) -> None:
    run(server, "CREATE TABLE t (a int)")
    settings = BackupsSettings(kind="physical", databases=("postgres",), passwords=False)
    site = replace(site, settings=settings)
    backup = service.backup_now(server, site, verify=False)
    assert "databases, passwords of [backups] mean nothing here" in backup.messages
    assert "table public.t" in backup.contents["databases"]["postgres"]["objects"]
    backup.contents["databases"]["postgres"]["objects"]["table public.t"] = "0" * 16
    backup.contents["databases"]["postgres"]["objects"]["table public.u"] = "0" * 16
    reader = open_backup(site.repository, backup.folder, site.keyring(), backup.sha256)
    proof = KINDS["physical"].prove(site, backup, reader, lambda line: None)
    assert "the table public.t of 'postgres' is different" in proof.problem
    assert "the table public.u of 'postgres' is missing" in proof.problem
