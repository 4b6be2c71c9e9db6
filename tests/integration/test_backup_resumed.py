"""Restores that were interrupted go on where they were; what is in the way of one is told before it begins."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest
from backup_sample import everything
from test_backup_killed import child, until
from tests.conftest import soak
from wal_support import flushed, streaming

from atalaia.backup import service
from atalaia.backup.model import Selection, Target, Wanted
from atalaia.backup.restore import JOURNAL, RESTORING
from atalaia.backup.restoring import plan as plans
from atalaia.backup.site import Site
from atalaia.backup.vault.local import LocalPlace
from atalaia.backup.vault.place import PlaceError
from atalaia.backup.vault.reader import open_backup
from atalaia.environment.backing import BackupsSettings
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect, set_password
from atalaia.postgres.temporary import running
from atalaia.runtime.process import Process


@dataclass
class Failing:
    """A place that goes away after so many bytes of packs."""

    inner: LocalPlace
    error: BaseException
    left: int
    read_bytes: list[int] = field(default_factory=list)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        if name.endswith(".pack"):
            self.left -= length or 0
            if self.left < 0:
                raise self.error
            self.read_bytes.append(length or 0)
        return self.inner.read(name, offset, length)


@pytest.mark.parametrize("error", [PlaceError("it is away", "wait"), KeyboardInterrupt()], ids=["away", "Ctrl-C"])
def test_an_interrupted_restore_goes_on(new_server: Any, site: Site, error: BaseException) -> None:
    server = new_server()
    with connect(server, autocommit=True) as connection:
        # Random text, so that the backup has many chunks of some size.
        connection.execute(
            "CREATE TABLE many AS SELECT i, encode(sha512((i || 'x')::bytea), 'hex') FROM generate_series(1, 200000) i"
        )
    original = everything(server)
    backup = service.backup_now(server, site, kind="physical", verify=False)
    assert isinstance(site.repository, LocalPlace)
    # It is read twice: for the checksums, then for the files.
    away = Failing(site.repository, error, backup.size + backup.size * 2 // 3)
    target = site.restored / "here"
    away_site = replace(site, repository=cast("Any", away))
    with pytest.raises(type(error)):
        service.restore(away_site, backup.id, target, wanted=Wanted(jobs=1))
    noted = json.loads((target / JOURNAL).read_text())["done"]
    chunks = sum(last - first + 1 for ranges in noted.values() for first, last in ranges)
    assert chunks > 0
    password = (target / "secret" / "password").read_text()

    counted = Failing(site.repository, error, 1 << 40)
    told: list[str] = []
    done = service.restore(replace(site, repository=cast("Any", counted)), backup.id, target, told.append)
    assert any("going on" in line for line in told)
    members = open_backup(site.repository, backup.folder, None).members.values()
    assert len(counted.read_bytes) <= sum(len(member.chunks) for member in members) - chunks
    assert done.cluster.password_file.read_text() == password
    with running(done.cluster):
        assert everything(done.cluster) == original
    assert {path.name for path in target.iterdir()} == {"data", "log", "secret", "stderr.log", "tablespaces"}


def test_what_another_restore_left_is_removed_and_one_under_way_is_not_touched(new_server: Any, site: Site) -> None:
    server = new_server()
    backup = service.backup_now(server, site, kind="physical", verify=False)
    target = site.restored / "here"
    target.mkdir()
    own = Process.of(os.getpid())
    assert own
    own.save(target / RESTORING)
    (target / "half").write_text("a file")
    with pytest.raises(InputError, match=f"is under way .process {os.getpid()}"):
        service.restore(site, backup.id, target)
    assert (target / "half").exists()

    (target / RESTORING).write_text("")
    (target / JOURNAL).write_text("{}")
    (target / "order.json").write_text(json.dumps({"backup": "another"}))
    told: list[str] = []
    service.restore(site, backup.id, target, told.append)
    assert any(line.startswith("removed what an interrupted restore had left") for line in told)
    assert not (target / "half").exists()


def test_a_restore_that_does_not_fit_is_refused_before_it_begins(
    new_server: Any, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = new_server()
    backup = service.backup_now(server, site, kind="physical", verify=False)
    usage = plans.shutil.disk_usage("/")
    monkeypatch.setattr(plans.shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(AtalaiaError, match=r"needs about .* MB in .*, where 1\.0 MB are free") as error:
        service.restore(site, backup.id)
    assert "--to" in error.value.remedy
    assert list(site.restored.iterdir()) == []


def test_a_moment_before_the_backup_or_without_wal_is_refused(new_server: Any, site: Site) -> None:
    server = new_server()
    backup = service.backup_now(server, site, kind="physical", verify=False)
    for wanted, said in (
        (Wanted(Target(lsn="0/1")), "end"),
        (Wanted(Target()), "no WAL of postgres_a"),
        (Wanted(selection=Selection(("nothing",))), "no database 'nothing'"),
        (Wanted(selection=Selection(("postgres",), (), ("public.t",))), "into a server that exists"),
    ):
        with pytest.raises(InputError, match=said):
            service.restore(site, backup.id, wanted=wanted)
        assert list(site.restored.iterdir()) == []


def test_a_part_of_a_physical_backup_needs_less_room(new_server: Any, site: Site) -> None:
    server = new_server()
    with connect(server, autocommit=True) as connection:
        connection.execute("CREATE DATABASE big")
    with connect(server, "big", autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT i, repeat('x', 500) FROM generate_series(1, 60000) i")
    backup = service.backup_now(server, site, kind="physical", verify=False)
    whole = plans.plan(site, backup, Wanted(), site.temporary)
    part = plans.plan(site, backup, Wanted(selection=Selection(("postgres",))), site.temporary)
    assert whole.needs == backup.raw_size
    assert 20_000_000 < part.needs < whole.needs - 33_000_000
    assert plans.plan(site, backup, Wanted(selection=Selection(("big",))), site.temporary).needs > whole.needs * 0.9


def test_a_restore_that_is_killed_again_and_again_comes_to_its_end(new_server: Any, site: Site) -> None:
    seed = int(os.environ.get("ATALAIA_SEED") or random.randrange(1 << 32))
    print(f"ATALAIA_SEED={seed}")
    rng = random.Random(seed)
    server = new_server()
    with connect(server, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT i, md5(i::text) AS text FROM generate_series(1, 100000) i")
    original = everything(server)
    backup = service.backup_now(server, site, kind="physical", verify=False)
    target = site.restored / "here"
    killed = 0
    for _ in range(40 if soak() else 3):
        process = child(server, site, "restore to", f"{backup.id} {target}")
        assert process.stdout
        process.stdout.readline()  # it has begun
        time.sleep(rng.random() * 1.5)
        process.kill()
        process.communicate()
        killed += (target / RESTORING).exists()
        if target.exists() and not (target / RESTORING).exists():
            shutil.rmtree(target)  # it was quicker
    done = service.restore(site, backup.id, target)
    print(f"killed in the middle {killed} times")
    with running(done.cluster):
        assert everything(done.cluster) == original
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert os.fsencode(target) not in path.read_bytes(), "a server of a killed restore runs on"


@pytest.mark.parametrize("where", ["aaa", "postgres", "zzz"])
def test_tables_that_a_crash_empties_are_loaded_again(new_server: Any, site: Site, where: str) -> None:
    """An unlogged table that was restored is empty when the restore is killed, and its server with it."""
    site = replace(site, settings=BackupsSettings(kind="logical", jobs=1))
    server = new_server()
    for name in ("aaa", "zzz"):
        with connect(server, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
    with connect(server, where, autocommit=True) as connection:
        connection.execute("CREATE UNLOGGED TABLE unlogged (id int GENERATED ALWAYS AS IDENTITY, t text)")
        connection.execute("INSERT INTO unlogged (t) SELECT repeat('x', 100) FROM generate_series(1, 2000) i")
    with connect(server, "zzz", autocommit=True) as connection:
        connection.execute(
            "CREATE FUNCTION slow(int) RETURNS bool LANGUAGE sql AS 'SELECT pg_sleep(0.02 * $1) IS NOT NULL'"
        )
        connection.execute("CREATE TABLE slow (i int CHECK (slow(i)))")
        connection.execute("INSERT INTO slow SELECT 1 FROM generate_series(1, 100) i")
    original = everything(server)
    backup = service.backup_now(server, site, verify=False)
    target = site.restored / "here"
    process = child(server, site, "restore to", f"{backup.id} {target}")
    # All that comes before the slow rows is there; of its own database the other table is larger, and comes first.
    until(lambda: _noted(target, backup.details["databases"][-1][1]))
    process.kill()
    process.communicate()
    assert (target / RESTORING).exists()
    told: list[str] = []
    done = service.restore(site, backup.id, target, told.append)
    assert any("going on" in line for line in told)
    with running(done.cluster):
        assert everything(done.cluster) == original


def _noted(target: Path, last: str) -> bool:
    """Whether the restore's journal says that the last database's rows are being loaded, and some are there."""
    with contextlib.suppress(OSError, ValueError):
        done = json.loads((target / JOURNAL).read_text())["done"]
        return f"{last} schema" in done and all(f"{number} done" in done for number in _others(last))
    return False


def _others(last: str) -> list[str]:
    return [f"{number:04d}" for number in range(1, int(last))]


def test_a_restore_that_was_killed_before_it_began_is_in_nobodys_way(new_server: Any, site: Site) -> None:
    backup = service.backup_now(new_server(), site, verify=False)
    target = site.restored / "here"
    target.mkdir()
    own = os.getpid()
    (target / f".{RESTORING}.{own}.partial").write_text("")  # its process lives
    with pytest.raises(InputError, match="is not empty"):
        service.restore(site, backup.id, target)
    (target / f".{RESTORING}.{own}.partial").rename(target / f".{RESTORING}.4194304.partial")
    done = service.restore(site, backup.id, target)
    assert not list(target.glob(".*"))
    with running(done.cluster):
        pass


@pytest.mark.parametrize("kind", ["logical", "physical"])
def test_a_restore_that_is_interrupted_at_its_very_end_goes_on(
    new_server: Any, site: Site, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The superuser has a new password by then, which is not the one of the backup, and all WAL is replayed."""
    server = new_server()
    with connect(server, autocommit=True) as connection:
        connection.execute("CREATE TABLE t AS SELECT i FROM generate_series(1, 1000) i")
    backup = service.backup_now(server, site, kind=kind, verify=False)
    wanted = Wanted()
    if kind == "physical":
        with streaming(server, site) as received, connect(server, autocommit=True) as connection:
            connection.execute("DELETE FROM t WHERE i > 500")
            connection.execute("SELECT pg_switch_wal()")
            received.archived(flushed(server))
        wanted = Wanted(Target())
    original = everything(server)

    def interrupted(cluster: Cluster) -> None:
        set_password(cluster)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(f"atalaia.backup.{kind}.kind.set_password", interrupted)
        with pytest.raises(KeyboardInterrupt):
            service.restore(site, backup.id, wanted=wanted)
    told: list[str] = []
    done = service.restore(site, backup.id, progress=told.append, wanted=wanted)
    assert any("going on" in line for line in told)
    with running(done.cluster):
        assert everything(done.cluster) == original
