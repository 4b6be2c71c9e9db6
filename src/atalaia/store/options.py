"""How a store is to work, and how it is."""

from __future__ import annotations

from dataclasses import dataclass, field

from atalaia.store.batch import Limits
from atalaia.store.retention import Retention


@dataclass(frozen=True, slots=True)
class Options:
    """`flush_bytes`: size of a memory table; `flush_seconds`: its age, at which it becomes a segment.

    After `idle_seconds` in which no segment was written, segments are compacted.
    With less than `disk_floor` bytes free, pushes are refused.
    """

    flush_bytes: int = 48 << 20
    flush_seconds: float = 900.0
    idle_seconds: float = 5.0
    disk_floor: int = 256 << 20
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)


@dataclass(frozen=True, slots=True)
class State:
    """Sizes in bytes; `settled`: nothing is left to be compacted or removed; `damaged`: segments that are not read.

    `segments_to_compact`: those that were not compacted yet.
    """

    settled: bool
    segments: int
    rows: int
    bytes: int
    line_bytes: int
    rows_in_memory: int
    streams: int
    damaged: tuple[str, ...]
    wal_bytes: int
    segments_to_compact: int
