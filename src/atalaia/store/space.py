"""Room on the disk: below a floor of free bytes the store takes no entries, so that what it has stays usable."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

log = logging.getLogger("atalaia.store")
_FRESH = 1.0  # seconds for which an answer is good


@dataclass(frozen=True, slots=True)
class Shortage:
    """Less is free than there should be. Sizes in bytes; `free` is what an unprivileged process may still use."""

    directory: Path
    free: int
    floor: int

    def __str__(self) -> str:
        return f"{self.free} bytes are free at {self.directory}, less than the floor of {self.floor}"


class Space:
    """Asks the file system of `directory` at most once a second; from any thread."""

    def __init__(
        self,
        directory: Path,
        floor: int,
        statvfs: Callable[[Path], os.statvfs_result] = os.statvfs,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._directory = directory
        self._floor = floor
        self._statvfs = statvfs
        self._clock = clock
        self._asked = -_FRESH
        self._answer: Shortage | None = None

    def shortage(self) -> Shortage | None:
        """What is missing; None when there is room. Its beginning and its end are logged."""
        now = self._clock()
        if now - self._asked < _FRESH:
            return self._answer
        before, self._answer, self._asked = self._answer, self._ask(), now
        if self._answer and not before:
            log.warning("event=disk_floor reason=%r", str(self._answer))
        elif before and not self._answer:
            log.info("event=disk_has_room directory=%s", self._directory)
        return self._answer

    def _ask(self) -> Shortage | None:
        try:
            found = self._statvfs(self._directory)
        except OSError:
            return None  # a file system that does not answer is told by the write that fails
        free = found.f_bavail * found.f_frsize
        return Shortage(self._directory, free, self._floor) if free < self._floor else None
