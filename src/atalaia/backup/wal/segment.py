"""WAL segments: names, positions (LSN), headers, timeline histories (PostgreSQL: xlog_internal.h, timeline.c)."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from atalaia.backup.vault.place import Damaged
from atalaia.environment.errors import InputError

PARTIAL = ".partial"
HISTORY = ".history"
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_HISTORY = re.compile(r"[0-9A-F]{8}\.history")
# XLogLongPageHeaderData: magic, info, timeline, address, remaining length, padding, system identifier, segment size.
_HEADER = struct.Struct("=HHIQI4xQI")
_LONG_HEADER = 0x0002


def lsn(text: str) -> int:
    """`1/2A3B4C` as a number. Raises InputError."""
    match = _LSN.fullmatch(text.strip())
    if not match:
        raise InputError(f"{text!r} is no LSN", "it is two hexadecimal numbers, such as 1/2A3B4C")
    return int(match[1], 16) << 32 | int(match[2], 16)


def show(position: int) -> str:
    """An LSN as PostgreSQL shows it."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"


@dataclass(frozen=True, slots=True, order=True)
class Segment:
    """Segment `number` (position // size) of a timeline; `size` in bytes."""

    timeline: int
    number: int
    size: int

    @property
    def name(self) -> str:
        """The name of its file."""
        each = (1 << 32) // self.size
        return f"{self.timeline:08X}{self.number // each:08X}{self.number % each:08X}"

    @property
    def start(self) -> int:
        """The position of its first byte."""
        return self.number * self.size

    @property
    def end(self) -> int:
        """The position behind its last byte."""
        return self.start + self.size

    @property
    def next(self) -> Segment:
        """The one that follows on the same timeline."""
        return Segment(self.timeline, self.number + 1, self.size)


def parse(name: str, size: int) -> Segment:
    """The segment of a file name without ending. Raises InputError."""
    if not is_segment(name):
        raise InputError(f"{name!r} is no WAL segment", "a name has 24 hexadecimal digits")
    return Segment(int(name[:8], 16), int(name[8:16], 16) * ((1 << 32) // size) + int(name[16:], 16), size)


def at(timeline: int, position: int, size: int) -> Segment:
    """The segment that holds a position."""
    return Segment(timeline, position // size, size)


def is_segment(name: str) -> bool:
    """Whether a name is that of a whole segment."""
    return _SEGMENT.fullmatch(name) is not None


def is_partial(name: str) -> bool:
    """Whether a name is that of a segment still being received."""
    return name.endswith(PARTIAL) and is_segment(name.removesuffix(PARTIAL))


def is_history(name: str) -> bool:
    """Whether a name is that of a timeline's history."""
    return _HISTORY.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Header:
    """What the first page of a segment says of it."""

    timeline: int
    position: int
    system: str
    size: int


def header(data: bytes | memoryview, name: str) -> Header:
    """The header of a segment's beginning. Raises Damaged when that is none."""
    if len(data) < _HEADER.size:
        raise Damaged(f"{name} is no WAL: it has {len(data)} bytes", "nothing was archived of it")
    _, info, timeline, position, _, system, size = _HEADER.unpack_from(data)
    if not info & _LONG_HEADER:
        raise Damaged(f"{name} does not begin like a WAL segment", "nothing was archived of it")
    return Header(timeline, position, str(system), size)


@dataclass(frozen=True, slots=True)
class Fork:
    """Where a timeline was left: `timeline` until `position`."""

    timeline: int
    position: int


def history(data: bytes) -> tuple[Fork, ...]:
    """The forks of a history file, oldest first: the timelines before its own."""
    forks = []
    for line in data.decode(errors="replace").splitlines():
        fields = line.split("#", 1)[0].split()
        if len(fields) >= 2:
            forks.append(Fork(int(fields[0]), lsn(fields[1])))
    return tuple(forks)
