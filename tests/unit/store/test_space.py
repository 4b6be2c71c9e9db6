from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from atalaia.store.space import Shortage, Space

HERE = Path("/here")


class Disk:
    """A file system and a clock that do as they are told."""

    def __init__(self, free: int) -> None:
        self.free = free
        self.now = 0.0
        self.asked = 0
        self.broken = False

    def statvfs(self, path: Path) -> os.statvfs_result:
        assert path == HERE
        self.asked += 1
        if self.broken:
            raise OSError("gone")
        # What root alone may still use (f_bfree) is not counted.
        return os.statvfs_result((4096, 1024, 1 << 30, 1 << 30, self.free // 1024, 0, 0, 0, 0, 255))

    def clock(self) -> float:
        return self.now


def space(disk: Disk, floor: int) -> Space:
    return Space(HERE, floor, disk.statvfs, disk.clock)


@pytest.mark.parametrize(("free", "short"), [(10_240, False), (9216, True), (0, True), (1 << 40, False)])
def test_less_than_the_floor_is_a_shortage(free: int, short: bool) -> None:
    assert space(Disk(free), 10_240).shortage() == (Shortage(HERE, free, 10_240) if short else None)


def test_a_floor_of_nothing_is_never_met() -> None:
    assert space(Disk(0), 0).shortage() is None


def test_it_is_told_in_bytes_with_its_place() -> None:
    assert str(Shortage(HERE, 5, 10)) == "5 bytes are free at /here, less than the floor of 10"


def test_the_file_system_is_asked_once_a_second_and_changes_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "atalaia.store")
    disk = Disk(0)
    place = space(disk, 1024)
    seen = []
    for now, free in ((0.0, 0), (0.9, 4096), (1.0, 0), (1.9, 4096), (2.0, 4096), (2.9, 0), (3.0, 0)):
        disk.now, disk.free = now, free
        seen.append(place.shortage() is not None)
    assert seen == [True, True, True, True, False, False, True]
    assert disk.asked == 4
    assert [record.message.split()[0] for record in caplog.records] == [
        "event=disk_floor",
        "event=disk_has_room",
        "event=disk_floor",
    ]


def test_a_file_system_that_does_not_answer_is_no_shortage() -> None:
    disk = Disk(0)
    disk.broken = True
    assert space(disk, 1024).shortage() is None
