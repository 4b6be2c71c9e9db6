"""Whether a file is still what was written: its size and CRC-32 are those that the catalogue has of it."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from pathlib import Path

_BLOCK = 4 << 20


def checksum(path: Path) -> tuple[int, int]:
    """Size and CRC-32 of a file. Raises OSError."""
    block = memoryview(bytearray(_BLOCK))
    crc = size = 0
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(block):
            crc = zlib.crc32(block[:count], crc)
            size += count
    return size, crc


def crc_problem(path: Path, size: int, crc: int) -> str | None:
    """How a file differs from the size and the CRC-32 that the catalogue has of it. Raises FileNotFoundError."""
    try:
        found = checksum(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        return f"it cannot be read: {error}"
    if found[0] != size:
        return f"it has {found[0]} bytes; the catalogue says {size}"
    return None if found[1] == crc else "its CRC-32 is not the catalogue's"


def damage(path: Path, size: int, crc: int) -> str | None:
    """The same; a file that is missing is damaged too."""
    try:
        return crc_problem(path, size, crc)
    except FileNotFoundError:
        return "it is missing"


class Intact:
    """The answer for one file, found out when it is first asked for."""

    def __init__(self, path: Path, size: int, crc: int, damaged: Callable[[str, str], None]) -> None:
        """`damaged` is told the file's name and what is wrong with it, once."""
        self._path, self._size, self._crc = path, size, crc
        self._damaged = damaged
        self._guard = threading.Lock()
        self._found: bool | None = None

    def get(self) -> bool:
        """Whether the file may be read."""
        with self._guard:
            if self._found is None:
                problem = damage(self._path, self._size, self._crc)
                self._found = problem is None
                if problem is not None:
                    self._damaged(self._path.name, problem)
            return self._found
