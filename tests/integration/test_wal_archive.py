"""The archive of WAL in a real folder: what is kept, refused, missing, removed, read from elsewhere."""

from __future__ import annotations

import shutil
import struct
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from atalaia.backup.site import Site
from atalaia.backup.vault import keys
from atalaia.backup.vault.keys import Keyring, WrongKey
from atalaia.backup.vault.local import LocalPlace
from atalaia.backup.vault.place import Damaged, PlaceError
from atalaia.backup.wal import left, segment, spool
from atalaia.backup.wal.archive import Archive, OtherWal, open_archive
from atalaia.backup.wal.extent import gaps, prune, ranges, timelines, way
from atalaia.backup.wal.rewrap import rewrap
from atalaia.backup.wal.segment import PARTIAL, Segment

SIZE = 1 << 20
SYSTEM = "7123"
AT = datetime(2026, 11, 23, tzinfo=UTC)


def wal(each: Segment, system: str = SYSTEM, fill: bytes = b"x") -> bytes:
    head = struct.pack("=HHIQI4xQI", 0xD113, 2, each.timeline, each.start, 0, int(system), each.size)
    return head + fill * (each.size - len(head))


def made(place: LocalPlace, sealing: Keyring | None = None) -> Archive:
    found = open_archive(place, "a", SYSTEM, sealing, segment_size=SIZE, sealing=sealing)
    assert found
    return found


def put(into: Archive, timeline: int, *numbers: int) -> None:
    for number in numbers:
        each = Segment(timeline, number, SIZE)
        into.store(each.name, wal(each), AT)


def history(into: Archive, timeline: int, *forks: tuple[int, int]) -> None:
    text = "".join(f"{line}\t{segment.show(position)}\treason\n" for line, position in forks)
    into.store(f"{timeline:08X}.history", text.encode(), AT)


@pytest.fixture
def place(tmp_path: Path) -> LocalPlace:
    return LocalPlace(tmp_path / "repository")


def test_the_same_is_not_stored_twice_and_other_contents_are_refused(place: LocalPlace) -> None:
    for ring in (None, Keyring((keys.new_key(),))):
        shutil.rmtree(place.root, ignore_errors=True)
        found = made(place, ring)
        each = Segment(1, 5, SIZE)
        assert found.store(each.name, wal(each), AT)
        before = {path: path.read_bytes() for path in place.root.rglob("*") if path.is_file()}
        assert not found.store(each.name, wal(each), AT)
        assert not made(place, ring).store(each.name, wal(each), AT)
        with pytest.raises(OtherWal):
            found.store(each.name, wal(each, fill=b"y"), AT)
        with pytest.raises(OtherWal):
            found.store(each.next.name, wal(each.next, system="8"), AT)
        with pytest.raises(Damaged):
            found.store(each.next.name, wal(each), AT)
        assert {path: path.read_bytes() for path in place.root.rglob("*") if path.is_file()} == before
        assert found.read(each.name) == wal(each)


def test_a_partial_segment_gives_way_to_the_whole_one(place: LocalPlace) -> None:
    found = made(place)
    each = Segment(1, 5, SIZE)
    put(found, 1, 4)
    for length in (100, 5000):
        found.store_partial(each.name + PARTIAL, wal(each)[:length], AT)
        assert made(place).read(each.name + PARTIAL) == wal(each)[:length]
    assert ranges(made(place))[0].partial
    found.store(each.name, wal(each), AT)
    # Received again after a kill: the whole one stays.
    found.store_partial(each.name + PARTIAL, wal(each)[:100], AT)
    assert [(r.first.number, r.last.number, r.partial) for r in ranges(made(place))] == [(4, 5, False)]
    assert not list(place.root.rglob("*.open"))


def test_order_is_by_position_whatever_the_clock_says(place: LocalPlace) -> None:
    found = made(place)
    for number in range(10):
        each = Segment(1, number, SIZE)
        found.store(each.name, wal(each), AT - timedelta(hours=number))
    (only,) = ranges(made(place))
    assert (only.first.number, only.last.number) == (0, 9)
    assert not gaps(made(place))


def test_holes_are_found_on_each_timeline_and_where_one_was_begun(place: LocalPlace) -> None:
    found = made(place)
    put(found, 1, 2, 3, 5, 8)
    history(found, 2, (1, 3 * SIZE + 77))
    put(found, 2, 5)
    assert [(g.first.timeline, g.first.number, g.last.number) for g in gaps(found)] == [(1, 4, 4), (1, 6, 7), (2, 3, 4)]


def test_recovery_goes_along_the_timelines_and_never_beside_them(place: LocalPlace) -> None:
    found = made(place)
    put(found, 1, *range(2, 9))
    history(found, 2, (1, 4 * SIZE + 10))
    put(found, 2, 4, 5, 6)
    history(found, 3, (1, 4 * SIZE + 10), (2, 5 * SIZE))
    put(found, 3, 5, 6, 7)
    history(found, 4, (1, 3 * SIZE))
    steps, hole = way(found, 3, 3 * SIZE)
    assert [(s.timeline, s.number) for s in steps] == [(1, 3), (2, 4), (3, 5), (3, 6), (3, 7)]
    assert hole is None
    place.delete(found.object_of(Segment(2, 4, SIZE).name))
    steps, hole = way(made(place), 3, 3 * SIZE)
    assert [(s.timeline, s.number) for s in steps] == [(1, 3)]
    assert hole == Segment(2, 4, SIZE)
    # Timeline 4 has no WAL; 3 goes on from a backup that ended before it was begun, not from a later one.
    assert timelines(found, 1, 2 * SIZE) == [1, 2, 3]
    assert timelines(found, 1, 6 * SIZE) == [1]
    assert timelines(found, 2, 4 * SIZE + 50) == [2, 3]


def test_pruning_removes_what_lies_wholly_before(site: Site) -> None:
    assert isinstance(site.repository, LocalPlace)
    copy = LocalPlace(site.repository.root.with_name("copy"))
    site = replace(site, copies=(copy,))
    for where in (site.repository, copy):
        found = made(where)
        put(found, 1, *range(2, 9))
        history(found, 2, (1, 4 * SIZE))
        put(found, 2, 4, 5)
    limit = segment.show(5 * SIZE + 1)
    planned = prune(site, "a", SYSTEM, limit, dry_run=True)
    assert len(made(copy).wholes) == 9
    assert prune(site, "a", SYSTEM, limit) == planned
    assert [name.rsplit("/", 1)[1] for name in planned] == [
        Segment(*each, SIZE).name for each in ((1, 2), (1, 3), (1, 4), (2, 4))
    ]
    for where in (site.repository, copy):
        found = made(where)
        assert {(s.timeline, s.number) for s in found.wholes} == {(1, 5), (1, 6), (1, 7), (1, 8), (2, 5)}
        assert found.histories == {2}
    assert not prune(site, "a", SYSTEM, limit)
    prune(site, "a", SYSTEM, None)
    assert not [path for path in site.repository.root.rglob("*") if path.is_file()]


def test_pruning_that_is_interrupted_leaves_no_hole(place: LocalPlace, site: Site) -> None:
    site = replace(site, repository=place)
    put(made(place), 1, *range(20))
    chosen = prune(site, "a", SYSTEM, segment.show(15 * SIZE), dry_run=True)
    assert len(chosen) == 15
    for name in chosen:
        place.delete(name)
        assert not gaps(made(place))


def test_what_is_missing_or_damaged_is_read_from_a_further_repository(place: LocalPlace, tmp_path: Path) -> None:
    ring = Keyring((keys.new_key(),))
    put(made(place, ring), 1, 2, 3, 4)
    spare = LocalPlace(tmp_path / "copy")
    shutil.copytree(place.root, spare.root)
    path = place.root / made(place, ring).object_of(Segment(1, 2, SIZE).name)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    place.delete(made(place, ring).object_of(Segment(1, 3, SIZE).name))
    alone = open_archive(place, "a", SYSTEM, ring)
    assert alone
    assert len(gaps(alone)) == 1
    with pytest.raises(Damaged):
        alone.read(Segment(1, 2, SIZE).name)
    both = open_archive(place, "a", SYSTEM, ring, spares=(spare,))
    assert both
    assert not gaps(both)
    for number in (2, 3, 4):
        each = Segment(1, number, SIZE)
        assert both.read(each.name) == wal(each)
    shutil.rmtree(place.root)
    gone = open_archive(place, "a", SYSTEM, ring, spares=(spare,))
    assert gone
    assert len(gone.wholes) == 3


def test_keys_are_rotated_without_touching_the_wal(place: LocalPlace) -> None:
    old, new = keys.new_key(), keys.new_key()
    each = Segment(1, 2, SIZE)
    put(made(place, Keyring((old,))), 1, 2)
    before = {path: path.read_bytes() for path in place.root.rglob("0*") if path.is_file()}
    assert rewrap(place, "a", Keyring((old, new))) == 1
    assert rewrap(place, "a", Keyring((old, new))) == 0
    assert made(place, Keyring((new,))).read(each.name) == wal(each)
    assert {path: path.read_bytes() for path in place.root.rglob("0*") if path.is_file()} == before
    stranger = open_archive(place, "a", SYSTEM, Keyring((old,)))
    assert stranger
    with pytest.raises(WrongKey):
        stranger.read(each.name)
    assert wal(each)[:200] not in next(iter(before.values()))


def test_an_archive_that_has_gone_is_not_written_to(place: LocalPlace) -> None:
    found = made(place)
    put(found, 1, 2)
    shutil.rmtree(place.root)
    with pytest.raises(PlaceError):
        put(found, 1, 3)
    assert not place.root.exists()


def test_what_another_server_of_the_name_had_left_goes_into_its_own_archive(site: Site) -> None:
    old, new = (spool.folder_of(site, "a", system) for system in (SYSTEM, "9"))
    whole, growing = Segment(2, 7, SIZE), Segment(2, 8, SIZE)
    (old / whole.name).write_bytes(wal(whole))
    (old / f"{growing.name}.partial").write_bytes(wal(growing)[:5000].ljust(SIZE, b"\0"))
    told: list[str] = []
    left.carry(site, "a", new, told.append)
    found = open_archive(site.repository, "a", SYSTEM, None)
    assert found
    assert found.read(whole.name) == wal(whole)
    assert found.read(f"{growing.name}.partial") == wal(growing)[:5000]
    assert not old.exists()
    left.carry(site, "a", new, told.append)
    assert [line for line in told if "could not" in line] == []
    assert len(told) == 1
