"""Retention carried out: real backups in two repositories, killed anywhere, and in use."""

from __future__ import annotations

import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atalaia.backup import catalogue, rows, service, underway
from atalaia.backup.keeping import guard
from atalaia.backup.keeping.orphans import erase
from atalaia.backup.keeping.prune import mark, prune
from atalaia.backup.keeping.retention import REMOVED
from atalaia.backup.model import Backup, State
from atalaia.backup.site import Site
from atalaia.backup.vault.local import LocalPlace
from atalaia.backup.vault.place import PlaceError
from atalaia.backup.vault.reader import open_backup
from atalaia.backup.vault.writer import Writer
from atalaia.backup.wal.archive import open_archive
from atalaia.backup.wal.segment import Segment, is_segment, show
from atalaia.environment.backing import BackupsSettings
from atalaia.environment.errors import InputError
from atalaia.postgres.cluster import Cluster
from atalaia.runtime.process import Process

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)

# For each line of its input it prunes in a process of its own, which ends itself with kill -9 before its Nth step: the
# deletion of an object, or a write of the catalogue. Its answer is how that process ended.
KILLED = """
import os, pickle, signal, sys
from atalaia.backup import catalogue
from atalaia.backup.keeping.orphans import erase
from atalaia.backup.keeping.prune import prune
from atalaia.backup.vault.local import LocalPlace

def counted(original):
    def call(*arguments):
        global count
        count -= 1
        if count < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*arguments)
    return call

LocalPlace.delete = counted(LocalPlace.delete)
catalogue.put, catalogue.forget = counted(catalogue.put), counted(catalogue.forget)
for line in sys.stdin:
    site, now, count = pickle.loads(bytes.fromhex(line))
    pid = os.fork()
    if not pid:
        prune(site, lambda _: None, now=now)
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@pytest.fixture
def killer() -> Iterator[Callable[[Site, int], int]]:
    """Prunes until the Nth step; how that ended."""
    with subprocess.Popen([sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:

        def kill(site: Site, count: int) -> int:
            assert process.stdin
            assert process.stdout
            process.stdin.write(pickle.dumps((site, NOW, count)).hex().encode() + b"\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        yield kill


def tell(_: str) -> None:
    pass


@pytest.fixture
def site(site: Site, folder: Path) -> Site:
    return replace(
        site,
        copies=(LocalPlace(folder / "copy"),),
        settings=BackupsSettings.model_validate({"kind": "plain", "retention": {"last": 2}}),
    )


def make(site: Site, age: timedelta, kind: str = "plain", parent: str = "", **details: str) -> Backup:
    """A backup with real objects in all repositories and its row; what is in it is of no use to a server."""
    started = NOW - age
    backup = Backup(
        id=f"postgres_a_{started:%Y-%m-%dT%H%M%SZ}",
        server="postgres_a",
        kind=kind,
        state=State.RUNNING,
        started=started,
        finished=started + timedelta(minutes=1),
        server_version="16.14",
        client_version="16.14",
        parent=parent,
        details=details,
    )
    process = Process.of(os.getpid())
    assert process
    site.catalogue.parent.mkdir(parents=True, exist_ok=True)
    catalogue.begin(site.catalogue, backup, process)
    for place in (site.repository, *site.copies):
        with Writer(place, backup.folder, compression="zstd", level=1, keyring=None, pack_size=1000) as writer:
            for name in ("one", "two"):
                writer.member(name).write(os.urandom(2000))
            backup = rows.sealed(replace(backup, state=State.VERIFIED), writer)
    # The repositories' objects differ; what is looked at here is whether they open.
    catalogue.put(site.catalogue, backup)
    return backup


def ids(site: Site) -> list[str]:
    return [backup.id for backup in catalogue.list_backups(site.catalogue)]


def lying(site: Site) -> list[set[str]]:
    """What lies in each repository."""
    return [set(place.folders("postgres_a/")) for place in (site.repository, *site.copies)]


def test_what_goes_goes_everywhere_and_the_rest_is_whole(site: Site) -> None:
    backups = [make(site, timedelta(days=days)) for days in (9, 8, 7, 6)]
    mark(site, backups[0], "forever")
    would = prune(site, tell, dry_run=True, now=NOW)
    assert [fate.stays for fate in would.fates] == [True, False, True, True]
    assert ids(site) == [backup.id for backup in backups], "a dry run changes nothing"
    done = prune(site, tell, now=NOW)
    assert done.removed == [backups[1].id]
    kept = [backups[n].id for n in (0, 2, 3)]
    assert ids(site) == kept
    assert lying(site) == [set(kept)] * 2
    for place in (site.repository, *site.copies):
        for identifier in kept:
            assert open_backup(place, f"postgres_a/{identifier}", None).damage() == []
    assert prune(site, tell, now=NOW).removed == []


def test_killed_anywhere_the_next_one_ends_it(site: Site, killer: Callable[[Site, int], int]) -> None:
    """kill -9 before each single step: no backup that restores is lost, none that is half gone is called good."""
    survived = 0
    site = replace(site, settings=BackupsSettings.model_validate({"retention": {"last": 1}}))
    for count in range(200):
        full = make(site, timedelta(days=9, minutes=count), kind="physical")
        make(site, timedelta(days=8, minutes=count), kind="physical", parent=full.id)
        newest = make(site, timedelta(days=7, minutes=count), kind="physical")
        ended = killer(site, count)
        for backup in catalogue.list_backups(site.catalogue):
            if backup.usable:
                assert backup.parent in ("", *ids(site))
                for place in (site.repository, *site.copies):
                    assert open_backup(place, backup.folder, None).damage() == []
        done = prune(site, tell, now=NOW)
        assert not done.problems
        assert ids(site) == [newest.id]
        assert lying(site) == [{newest.id}] * 2
        catalogue.forget(site.catalogue, newest)
        for place in (site.repository, *site.copies):
            erase(place, newest.folder)
        if ended == 0:
            break
        assert ended == -signal.SIGKILL
        survived += 1
    assert survived >= 20, "the steps were not reached"


def test_a_repository_that_is_away_leaves_the_backup_marked(site: Site) -> None:
    class Away(LocalPlace):
        def delete(self, name: str) -> None:
            raise PlaceError("the store is away", "wait")

    backups = [make(site, timedelta(days=days)) for days in (9, 8, 7)]
    (copy,) = site.copies
    assert isinstance(copy, LocalPlace)
    done = prune(replace(site, copies=(Away(copy.root),)), tell, now=NOW)
    assert done.removed == []
    assert "the store is away" in done.problems[0]
    left = catalogue.get(site.catalogue, backups[0].id)
    assert (left.state, left.error) == (State.FAILED, REMOVED)
    assert prune(site, tell, now=NOW).removed == [backups[0].id]
    assert lying(site) == [{backup.id for backup in backups[1:]}] * 2


def test_a_disk_that_is_not_mounted_loses_no_row(site: Site, folder: Path) -> None:
    """Nothing would be there to delete, and all of it would come back with the disk."""
    backups = [make(site, timedelta(days=days)) for days in (9, 8, 7)]
    (folder / "repository").rename(folder / "elsewhere")
    done = prune(site, tell, now=NOW)
    assert done.removed == []
    assert "is not there, or holds nothing" in done.problems[0]
    assert [backup.state for backup in catalogue.list_backups(site.catalogue)] == [State.VERIFIED] * 3
    (folder / "elsewhere").rename(folder / "repository")
    assert prune(site, tell, now=NOW).removed == [backups[0].id]


def test_orphans_go_and_what_is_whole_or_foreign_stays(site: Site, folder: Path) -> None:
    known, unknown = make(site, timedelta(days=3)), make(site, timedelta(days=4))
    catalogue.forget(site.catalogue, unknown)
    root = folder / "repository" / "postgres_a"
    old, new = root / "postgres_a_2026-11-01T000000Z", root / "postgres_a_2026-11-22T113000Z"
    foreign, being_written = root / "photos", root / "postgres_a_2026-11-02T000000Z"
    for path, hours in ((old, 30), (new, 1), (foreign, 300), (being_written, 30)):
        path.mkdir()
        file = path / ("data-00000.pack.ab12.partial" if path == being_written else "data-00000.pack")
        file.write_bytes(b"x" * 10)
        at = (NOW - timedelta(hours=hours)).timestamp()
        os.utime(file, (at, at))
    would = prune(site, tell, dry_run=True, now=NOW)
    assert {orphan.folder for orphan in would.orphans} == {f"postgres_a/{old.name}", f"postgres_a/{being_written.name}"}
    assert {orphan.folder for orphan in would.unknown} == {unknown.folder}
    prune(site, tell, now=NOW)
    assert {path.name for path in root.iterdir()} == {known.id, unknown.id, new.name, foreign.name}


def test_what_is_in_use_is_left_for_later(site: Site) -> None:
    for days in (9, 8, 7):
        make(site, timedelta(days=days))

    @contextmanager
    def restoring() -> Iterator[None]:
        with guard.using(site, "postgres_a"):
            yield

    for use in (restoring(), underway.lock(site, "postgres_a")):
        with use:
            done = prune(site, tell, now=NOW)
            assert list(done.skipped) == ["postgres_a"]
            assert not done.removed
    assert len(prune(site, tell, now=NOW).removed) == 1


def test_whoever_wants_a_backup_waits_while_some_are_removed(site: Site) -> None:
    backup = make(site, timedelta(days=1))
    with guard.removing(site, "postgres_a") as alone:
        assert alone
        code = (
            "import pickle, sys\nfrom atalaia.backup.keeping import guard\n"
            "site, tell = pickle.loads(bytes.fromhex(sys.argv[1])), lambda line: print(line, flush=True)\n"
            "with guard.using(site, 'postgres_a', tell):\n"
            "    tell('has it')\n"
        )
        waiting = subprocess.Popen(
            [sys.executable, "-c", code, pickle.dumps(site).hex()], stdout=subprocess.PIPE, text=True
        )
        assert waiting.stdout
        assert "waiting until" in waiting.stdout.readline()
        catalogue.forget(site.catalogue, backup)
    assert waiting.stdout.readline() == "has it\n"
    waiting.stdout.close()
    assert waiting.wait() == 0
    with pytest.raises(InputError, match="there is no backup"):
        service.verify(site, [backup.id])


def test_after_a_backup_retention_is_applied(site: Site, server: Cluster) -> None:
    lines: list[str] = []
    site = replace(site, copies=())
    made = [service.backup_now(server, site, lines.append, verify=number > 0) for number in range(3)]
    assert ids(site) == [backup.id for backup in made[1:]]
    assert any(line.startswith(f"{made[0].id}: removed") for line in lines)
    assert service.restore(site, made[1].id).backup.id == made[1].id


def test_a_backup_whose_removal_has_begun_is_none(site: Site) -> None:
    backup = make(site, timedelta(days=1))
    catalogue.put(site.catalogue, replace(backup, state=State.FAILED, error=REMOVED))
    with pytest.raises(InputError, match="being removed"):
        service.restore(site, backup.id)
    nothing = replace(site, settings=BackupsSettings(kind="plain"))
    assert prune(nothing, tell, now=NOW).removed == [backup.id]
    assert lying(site) == [set(), set()]


def test_wal_that_no_physical_backup_needs_goes_with_the_backups(site: Site) -> None:
    """In both repositories; of a server that was made anew the old WAL goes with its last backup."""
    size = 1 << 20
    site = replace(site, settings=BackupsSettings.model_validate({"retention": {"last": 1}}))
    for place in (site.repository, *site.copies):
        for system in ("7123", "7124"):
            archive = open_archive(place, "postgres_a", system, None, segment_size=size)
            assert archive
            for number in range(2, 9):
                each = Segment(1, number, size)
                head = struct.pack("=HHIQI4xQI", 0xD113, 2, 1, each.start, 0, int(system), size)
                archive.store(each.name, head + bytes(size - len(head)), NOW)

    def base(days: int, system: str, number: int) -> Backup:
        lsn = show(number * size + 40)
        return make(site, timedelta(days=days), kind="physical", system_identifier=system, start_lsn=lsn)

    def left() -> list[dict[str, list[int]]]:
        found = []
        for place in (site.repository, *site.copies):
            names = [one.name.split("/") for one in place.objects("postgres_a/wal/") if is_segment(one.name[-24:])]
            systems = {name[2] for name in names}
            found.append({s: sorted(int(n[-1][-8:], 16) for n in names if n[2] == s) for s in systems})
        return found

    old, older = base(9, "7123", 4), base(8, "7123", 6)
    assert prune(site, tell, dry_run=True, now=NOW).wal["postgres_a"][0].backup == older.id
    assert left() == [{"7123": list(range(2, 9)), "7124": list(range(2, 9))}] * 2
    assert prune(site, tell, now=NOW).removed == [old.id]
    assert left() == [{"7123": [6, 7, 8], "7124": list(range(2, 9))}] * 2
    base(1, "7124", 3)
    assert prune(site, tell, now=NOW).removed == [older.id]
    assert left() == [{"7124": list(range(3, 9))}] * 2
