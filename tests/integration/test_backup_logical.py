from __future__ import annotations

import os
import pickle
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from backup_sample import ODD_DATABASES, everything, fill

from atalaia.backup import catalogue, checks, service
from atalaia.backup.extract import extract
from atalaia.backup.logical import follow
from atalaia.backup.logical.archive import Archive
from atalaia.backup.logical.follow import Follower
from atalaia.backup.logical.toc import Toc
from atalaia.backup.model import Selection, State, Wanted
from atalaia.backup.restoring.into import Into, put
from atalaia.backup.site import Site
from atalaia.environment.backing import BackupsSettings, CheckSettings
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect, environment_variables
from atalaia.postgres.temporary import running, temporary
from atalaia.postgres.tools import variables


@pytest.fixture
def logical(site: Site) -> Site:
    return replace(site, settings=BackupsSettings(kind="logical"))


@pytest.mark.parametrize("major", [16, 18])
def test_what_is_restored_is_what_was_backed_up_column_by_column(new_server: Any, logical: Site, major: int) -> None:
    server = new_server(major=major)
    fill(server)
    with connect(server, autocommit=True) as connection:
        connection.execute("ALTER DATABASE postgres SET work_mem = '5MB'")
        connection.execute("ALTER ROLE alice IN DATABASE \"Upper\" SET work_mem = '6MB'")
    original = everything(server)
    told: list[str] = []

    backup = service.backup_now(server, logical, told.append)

    assert backup.state is State.VERIFIED
    assert backup.kind == "logical"
    upper = backup.contents["databases"]["Upper"]
    assert upper["tables"]["shop.items"][0] == 2007
    assert upper["tables"]['shop.Odd; "name"'][0] == 50
    assert upper["tables"]["shop.nothing"] == [3, 3]
    assert upper["large_objects"] == 3
    assert upper["large_object_bytes"] == 100 + 256 * 1024
    assert set(backup.contents["databases"]) == {"postgres", "template1", *ODD_DATABASES}
    assert set(backup.contents["roles"]) == {"alice", "Bob Smith", "staff", "aa_before_postgres", "postgres"}
    assert backup.messages == ""
    tables = sum(size for one in backup.contents["databases"].values() for _, size in one["tables"].values())
    assert tables + upper["large_object_bytes"] < backup.raw_size < tables + (1 << 20)
    assert list(logical.temporary.iterdir()) == []

    restored = service.restore(logical, backup.id, progress=told.append, keep_running=True)
    try:
        assert everything(restored.cluster) == original
        with connect(restored.cluster) as connection:
            settings = "SELECT setdatabase::regclass, setrole FROM pg_db_role_setting"
            settings = (
                "SELECT datname, setrole::regrole::text, setconfig FROM pg_db_role_setting LEFT JOIN pg_database d"
            )
            settings += " ON d.oid = setdatabase ORDER BY 1, 2"
            found = connection.execute(settings.encode()).fetchall()
        assert ("postgres", "-", ["work_mem=5MB"]) in found
        assert ("Upper", "alice", ["work_mem=6MB"]) in found
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            connect(replace(restored.cluster, password_file=server.password_file))
    finally:
        assert restored.process
        control.stop(restored.process)


def test_one_table_comes_back_alone_and_only_its_members_are_read(
    new_server: Any, logical: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, other = new_server(), new_server("postgres_b")
    fill(server, rows=300)
    backup = service.backup_now(server, logical, verify=False)
    with connect(other, autocommit=True) as connection:
        connection.execute("CREATE DATABASE target")
    read: list[str] = []
    stream = Archive.stream

    def noted(self: Archive, database: str, file: str) -> Iterator[bytes]:
        read.append(file)
        return stream(self, database, file)

    monkeypatch.setattr(Archive, "stream", noted)
    wanted = Wanted(selection=Selection(("Upper",), tables=("shop.items",)))
    done = put(logical, backup, wanted, Into(other, "target"), service.quiet)
    assert done.tables == {"shop.items": 307}
    assert len(read) == 1
    query = "SELECT * FROM shop.items ORDER BY id"
    with connect(server, "Upper") as there, connect(other, "target") as here:
        assert there.execute(query).fetchall() == here.execute(query).fetchall()
        indexes = "SELECT indexname FROM pg_indexes WHERE schemaname = 'shop' AND tablename = 'items' ORDER BY 1"
        assert there.execute(indexes).fetchall() == here.execute(indexes).fetchall()
        nextval = "SELECT nextval(pg_get_serial_sequence('shop.items', 'id'))"
        assert there.execute(nextval).fetchall() == here.execute(nextval).fetchall()
    with pytest.raises(InputError, match=r"these are there already: table shop\.items"):
        put(logical, backup, wanted, Into(other, "target"), service.quiet)
    done = put(logical, backup, wanted, Into(other, "brand new"), service.quiet)
    assert done.databases == {"brand new": True}


def with_settings(site: Site, **settings: Any) -> Site:
    return replace(site, settings=BackupsSettings(kind="logical", **settings))


@pytest.mark.parametrize(("pipes", "jobs", "major"), [(1, 3, 16), (512, 1, 15), (512, 2, 15)])
def test_files_that_are_no_pipes_are_taken_when_they_are_whole(
    new_server: Any, site: Site, monkeypatch: pytest.MonkeyPatch, pipes: int, jobs: int, major: int
) -> None:
    server = new_server(major=major)
    monkeypatch.setattr(follow, "_PIPES", pipes)
    with connect(server, autocommit=True) as connection:
        for table in ("a", "b", "c"):
            connection.execute(f"CREATE TABLE {table} AS SELECT i, md5(i::text) v FROM generate_series(1, 50000) i")
        connection.execute(
            "SELECT lo_from_bytea(0, decode(repeat(md5(i::text), 40000), 'hex')) FROM generate_series(1, 5) i"
        )
    backup = service.backup_now(server, with_settings(site, jobs=jobs))
    assert backup.state is State.VERIFIED
    postgres = backup.contents["databases"]["postgres"]
    assert {name: rows for name, (rows, _) in postgres["tables"].items()} == dict.fromkeys(
        ("public.a", "public.b", "public.c"), 50000
    )
    assert (postgres["large_objects"], postgres["large_object_bytes"]) == (5, 5 * 640_000)
    assert len(set(postgres["digests"].values())) == 2  # three equal tables, and the large objects


def test_what_settings_leave_out_is_left_out_and_the_rest_restores(server: Cluster, site: Site) -> None:
    with connect(server, autocommit=True) as connection:
        for name in ("one", "two", "tmp_three"):
            connection.execute(f"CREATE DATABASE {name}".encode())
        connection.execute("CREATE ROLE ann LOGIN PASSWORD 'secret'")
    with connect(server, "one", autocommit=True) as connection:
        connection.execute("CREATE SCHEMA kept CREATE TABLE parent (id int PRIMARY KEY)")
        connection.execute("CREATE TABLE kept.child (id int REFERENCES kept.parent)")
        connection.execute("CREATE TABLE kept.log (line text)")
        connection.execute("CREATE SCHEMA gone CREATE TABLE t (id int)")
        connection.execute("INSERT INTO kept.parent VALUES (1); INSERT INTO kept.child VALUES (1)")
        connection.execute("INSERT INTO kept.log VALUES ('x'); INSERT INTO gone.t VALUES (1)")
    chosen = {"exclude_databases": ("tmp_*", "two"), "exclude_schemas": ("gone",), "exclude_data": ("kept.parent",)}
    backup = service.backup_now(server, with_settings(site, passwords=False, **chosen))
    assert backup.state is State.VERIFIED
    assert set(backup.contents["databases"]) == {"template1", "postgres", "one"}
    assert backup.contents["databases"]["one"]["tables"] == {"kept.child": [1, 2], "kept.log": [1, 2]}
    assert "databases left out, as [backups] says: tmp_three, two" in backup.messages
    assert "the foreign key child child_id_fkey is left out" in backup.messages

    backup = service.backup_now(server, with_settings(site, tables=("kept.log",)))
    assert backup.state is State.VERIFIED
    assert backup.contents["databases"].keys() == {"one"}
    assert backup.contents["databases"]["one"]["tables"] == {"kept.log": [1, 2]}
    assert "the database two is not in the backup: it has nothing that is selected" in backup.messages

    with pytest.raises(InputError, match="none of the schemas and tables"):
        service.backup_now(server, with_settings(site, tables=("no.such",)))
    with pytest.raises(InputError, match="there is no database 'three'"):
        service.backup_now(server, with_settings(site, databases=("three",)))


def test_checks_of_the_user_are_asked_of_the_restored_server(server: Cluster, site: Site) -> None:
    with connect(server, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT 7 AS n")
    good = CheckSettings(sql="SELECT count(*) = 1 FROM t")
    others = CheckSettings(sql="SELECT false", servers=("another",))
    assert service.backup_now(server, with_settings(site, check=(good, others))).state is State.VERIFIED
    for text, said in (
        ("SELECT n FROM t", "the check 'mine' answered 7 in place of true"),
        ("SELECT true FROM t WHERE false", "the check 'mine' returned no row in place of one"),
        ("SELECT true FROM t, t u, generate_series(1, 2)", "the check 'mine' returned more than one row"),
        ("DELETE FROM t RETURNING true", "the check 'mine' failed: cannot execute DELETE in a read-only transaction"),
        ("SELECT true FROM nowhere", "the check 'mine' failed: relation \"nowhere\" does not exist"),
    ):
        asked = with_settings(site, check=(good, CheckSettings(sql=text, name="mine")))
        (problem,) = checks.failures(server, asked, server.name)
        assert problem.startswith(said)
    with pytest.raises(AtalaiaError, match="it does not restore: the check 'mine' failed"):
        service.backup_now(server, asked)
    assert catalogue.list_backups(site.catalogue)[-1].state is State.FAILED


def test_pg_restore_and_psql_restore_what_is_extracted(server: Cluster, logical: Site, folder: Path) -> None:
    fill(server, rows=100)
    backup = service.backup_now(server, logical, verify=False)
    done = extract(logical, backup, folder / "out", service.quiet)
    assert (folder / "out" / "globals.sql").stat().st_mode & 0o777 == 0o600
    assert sum(path.stat().st_size for path in (folder / "out").rglob("*") if path.is_file()) == done.size
    path = f"{server.installation.bindir}:{os.environ['PATH']}"
    with temporary(server.installation, server.account, logical.temporary) as fresh:
        for command in done.commands:
            made = variables(environment_variables(fresh)) | {"PATH": path}
            ran = subprocess.run(command, shell=True, capture_output=True, text=True, env=made)
            assert (ran.returncode, ran.stderr) == (0, ""), command
        assert everything(fresh) == everything(server)
    with pytest.raises(InputError, match="not empty"):
        extract(logical, backup, folder / "out", service.quiet)


_KILLED = """
import sys, pickle
from atalaia.backup import service
cluster, site = pickle.load(open(sys.argv[1], "rb"))
print("begin", flush=True)
service.backup_now(cluster, site, verify=False)
"""


def test_nothing_runs_on_when_a_backup_is_killed_and_the_next_command_removes_what_it_left(
    server: Cluster, logical: Site, folder: Path
) -> None:
    with connect(server, autocommit=True) as connection:
        connection.execute("CREATE TABLE big AS SELECT i, repeat(md5(i::text), 10) v FROM generate_series(1, 300000) i")
    state = folder / "state"
    state.write_bytes(pickle.dumps((server, logical)))
    process = subprocess.Popen([sys.executable, "-c", _KILLED, state], stdout=subprocess.PIPE)
    active = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump' AND query LIKE 'COPY%big%'"
    with connect(server, autocommit=True) as connection:
        while connection.execute(active.encode()).fetchone() == (0,):
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()
        process.wait()
        assert process.stdout
        process.stdout.close()
        deadline = time.monotonic() + 20
        gone = b"SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pg_dump'"
        while connection.execute(gone).fetchone() != (0,):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert [path.name.partition("-")[0] for path in logical.temporary.iterdir()] == ["staging"]
    told: list[str] = []
    (found,) = service.list_backups(logical, told.append)
    assert found.state is State.FAILED
    assert list(logical.temporary.iterdir()) == []
    assert any("staging" in line for line in told)
    assert service.backup_now(server, logical).state is State.VERIFIED


_RESTORED = """
import sys, pickle, time
from atalaia.backup import service
from atalaia.backup.logical.copying import Copying
from atalaia.backup.model import Wanted
cluster, site, identifier = pickle.load(open(sys.argv[1], "rb"))
table = Copying._table
def slow(self, connection, entry):
    if entry.name == "second":
        self._mark.__self__.journal.enter("schema")  # noted at most once a second otherwise
        print("second", flush=True)
        time.sleep(600)
    table(self, connection, entry)
Copying._table = slow
service.restore(site, identifier, wanted=Wanted(jobs=1))
"""


def test_a_restore_that_was_killed_goes_on_table_by_table(
    server: Cluster, logical: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE shop")
    with connect(server, "shop", autocommit=True) as connection:
        connection.execute("CREATE TABLE first AS SELECT i FROM generate_series(1, 20000) i")
        connection.execute("CREATE TABLE second (i int PRIMARY KEY)")
        connection.execute("INSERT INTO second SELECT generate_series(1, 10000)")
    original = everything(server)
    backup = service.backup_now(server, logical, verify=False)
    state = folder / "state"
    state.write_bytes(pickle.dumps((server, logical, backup.id)))
    with subprocess.Popen([sys.executable, "-c", _RESTORED, state], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "second\n"
        process.kill()

    read: list[str] = []
    stream = Archive.stream

    def noted(self: Archive, database: str, file: str) -> Iterator[bytes]:
        if database == "shop":
            read.append(file)
        return stream(self, database, file)

    monkeypatch.setattr(Archive, "stream", noted)
    told: list[str] = []
    restored = service.restore(logical, backup.id, progress=told.append, wanted=Wanted(jobs=1))
    assert any("going on with the restore" in line for line in told)
    assert len(read) == 1
    with running(restored.cluster):
        assert everything(restored.cluster) == original


def test_a_lock_that_comes_between_leader_and_worker_makes_the_dump_begin_anew(
    server: Cluster, logical: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(server, autocommit=True) as connection:
        connection.execute("CREATE TABLE a AS SELECT generate_series(1, 10) i")
    lay = Follower._lay
    waiting: list[threading.Thread] = []

    def truncate() -> None:
        with connect(server, autocommit=True) as other:
            other.execute("TRUNCATE a")

    def laid(self: Follower, contents: Toc, epoll: select.epoll) -> None:
        lay(self, contents, epoll)
        if contents.data and not waiting:
            waiting.append(threading.Thread(target=truncate))
            waiting[0].start()
            with connect(server, autocommit=True) as looking:
                queued = b"SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'AccessExclusiveLock'"
                while looking.execute(queued).fetchone() == (0,):
                    time.sleep(0.005)

    monkeypatch.setattr(Follower, "_lay", laid)
    told: list[str] = []
    backup = service.backup_now(server, logical, told.append)
    waiting[0].join()
    assert any("begins anew" in line and "could not obtain lock" in line for line in told), told
    assert backup.state is State.VERIFIED
    assert backup.contents["databases"]["postgres"]["tables"] == {"public.a": [0, 0]}


def test_a_restored_table_with_other_values_fails_the_proof(
    server: Cluster, logical: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(server, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT i FROM generate_series(100, 199) i")
    stream = Archive.stream

    def changed(self: Archive, database: str, file: str) -> Iterator[bytes]:
        for block in stream(self, database, file):
            yield block.replace(b"150\n", b"151\n") if file.endswith(".dat") and file != "toc.dat" else block

    monkeypatch.setattr(Archive, "stream", changed)
    with pytest.raises(AtalaiaError, match=r"postgres: the 100 rows of table public\.t hold other values"):
        service.backup_now(server, logical)
