from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from atalaia.environment.errors import AtalaiaError
from atalaia.store import wal
from atalaia.store.batch import Source
from atalaia.store.wal import MAGIC, Cut, LogFile, Record

RECORDS = [
    Record(1, "fake", (), b"first"),
    Record(7, "other tenant", (Source("a", 0, 5), Source("ç", 3, 2**63 - 1)), b"\0" * 40),
    Record(2**60, "fake", (Source("a", 5, 9),), b""),
    Record(2**60 + 1, "fake", (), bytes(range(256))),
]


def write(path: Path, records: list[Record]) -> None:
    log = LogFile(path)
    log.append(records)
    log.close()


def read(path: Path) -> tuple[list[Record], list[Cut]]:
    found = list(wal.scan(path))
    assert all(isinstance(f, Record) for f in found[:-1]), "a cut comes last"
    return [f for f in found if isinstance(f, Record)], [f for f in found if isinstance(f, Cut)]


def test_records_come_back_as_they_were(tmp_path: Path) -> None:
    write(tmp_path / "1.wal", RECORDS)
    assert read(tmp_path / "1.wal") == (RECORDS, [])


def test_an_existing_log_is_continued(tmp_path: Path) -> None:
    for record in RECORDS:
        write(tmp_path / "1.wal", [record])
    assert read(tmp_path / "1.wal") == (RECORDS, [])


def ends(records: list[Record]) -> list[int]:
    """The file's size behind each record."""
    sizes = [len(MAGIC)]
    for record in records:
        sizes.append(sizes[-1] + sum(map(len, wal.frame(record))))
    return sizes


def test_every_truncation_replays_exactly_the_whole_records(tmp_path: Path) -> None:
    path = tmp_path / "1.wal"
    write(path, RECORDS)
    whole = path.read_bytes()
    borders = ends(RECORDS)
    assert borders[-1] == len(whole)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        records, cuts = read(path)
        complete = max((i for i, end in enumerate(borders) if end <= size), default=0)
        assert records == RECORDS[:complete], size
        clean = size in borders or size == 0
        assert [(c.offset, c.lost) for c in cuts] == ([] if clean else [_cut_at(borders, complete, size)]), size
        for cut in cuts:
            wal.cut_off(cut)
        # What is written on it afterwards is read back behind what was whole.
        write(path, RECORDS[:1])
        assert read(path) == ([*RECORDS[:complete], RECORDS[0]], []), size


def _cut_at(borders: list[int], complete: int, size: int) -> tuple[int, int]:
    offset = borders[complete] if size > len(MAGIC) else 0
    return offset, size - offset


def test_a_flipped_bit_anywhere_never_gives_wrong_records(tmp_path: Path, rng: random.Random) -> None:
    path = tmp_path / "1.wal"
    write(path, RECORDS)
    whole = path.read_bytes()
    borders = ends(RECORDS)
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        if at < len(MAGIC):
            with pytest.raises(AtalaiaError, match="not a write-ahead log of version"):
                read(path)
            continue
        whole_before = max(i for i, end in enumerate(borders) if end <= at)
        records, cuts = read(path)
        assert records == RECORDS[:whole_before], at
        assert [(c.offset, c.lost) for c in cuts] == [(borders[whole_before], len(whole) - borders[whole_before])], at


@pytest.mark.parametrize("content", [b"ATLWAL\0\2", b"ATLWAL\0\2rest", b"a text file\n", b"X"])
def test_foreign_and_newer_files_are_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "1.wal"
    path.write_bytes(content)
    with pytest.raises(AtalaiaError, match="not a write-ahead log of version 1") as caught:
        read(path)
    assert "version of Atalaia that wrote it" in caught.value.remedy
    assert path.read_bytes() == content


class Disk:
    """os.write and os.ftruncate with a limited disk: after `room` bytes there is no space left."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: int | None = None
        self.truncates = True
        self._write, self._truncate = os.write, os.ftruncate
        monkeypatch.setattr(os, "write", self.write)
        monkeypatch.setattr(os, "ftruncate", self.truncate)

    def write(self, descriptor: int, data: bytes) -> int:
        if self.room is None:
            return self._write(descriptor, data)
        if not self.room:
            raise OSError(28, "No space left on device")
        written = self._write(descriptor, memoryview(data)[: self.room])
        self.room -= written
        return written

    def truncate(self, descriptor: int, size: int) -> None:
        if not self.truncates:
            raise OSError(5, "Input/output error")
        self._truncate(descriptor, size)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    return Disk(monkeypatch)


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "1.wal"
    log = LogFile(path)
    log.append(RECORDS[:1])
    size = path.stat().st_size
    needed = sum(len(part) for record in RECORDS[1:] for part in wal.frame(record))
    for room in (0, 1, 50, needed - 1):
        disk.room = room
        with pytest.raises(OSError, match="No space left"):
            log.append(RECORDS[1:])
        assert path.stat().st_size == size
        assert log.size == size
    disk.room = None
    log.append(RECORDS[1:])
    log.close()
    assert read(path) == (RECORDS, [])


def test_nothing_is_written_behind_a_torn_record(tmp_path: Path, disk: Disk) -> None:
    path = tmp_path / "1.wal"
    log = LogFile(path)
    log.append(RECORDS[:1])
    disk.room, disk.truncates = 10, False
    with pytest.raises(OSError, match="Input/output error"):
        log.append(RECORDS[1:2])
    disk.room = None
    with pytest.raises(OSError, match="Input/output error"):
        log.append(RECORDS[1:2])
    disk.truncates = True
    log.append(RECORDS[1:])
    log.close()
    assert read(path) == (RECORDS, [])


def test_a_log_that_cannot_be_begun_leaves_no_descriptor_open(tmp_path: Path, disk: Disk) -> None:
    before = len(os.listdir("/proc/self/fd"))
    disk.room = 3
    with pytest.raises(OSError, match="No space left"):
        LogFile(tmp_path / "1.wal")
    assert len(os.listdir("/proc/self/fd")) == before
    disk.room = None
    write(tmp_path / "1.wal", RECORDS)
    assert read(tmp_path / "1.wal") == (RECORDS, [])


def test_behind_damage_the_next_whole_record_is_found(tmp_path: Path, rng: random.Random) -> None:
    path = tmp_path / "1.wal"
    write(path, RECORDS)
    whole = path.read_bytes()
    borders = ends(RECORDS)
    for at in range(len(whole)):
        data = bytearray(whole)
        data[at] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        found = list(wal.intact(path))
        hit = [i for i in range(len(RECORDS)) if borders[i] <= at < borders[i + 1]]
        assert [f for f in found if isinstance(f, Record)] == [r for i, r in enumerate(RECORDS) if i not in hit], at
        (cut,) = [f for f in found if isinstance(f, Cut)]
        start, end = (borders[hit[0]], borders[hit[0] + 1]) if hit else (0, borders[0])
        assert (cut.offset, cut.lost) == (start, end - start), at
    path.write_bytes(whole)
    assert list(wal.intact(path)) == RECORDS
