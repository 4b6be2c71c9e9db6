"""What a query sees of a store: all that was acknowledged at one moment, in parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from atalaia.store.memory import MemoryTable, StreamRange
from atalaia.store.segment import Segment
from atalaia.store.streams import Streams


@dataclass(frozen=True, slots=True)
class Part:
    """A segment or a memory table as a snapshot sees it."""

    path: Path | None
    batches: tuple[pa.RecordBatch, ...]
    rows: int
    min_ts: int
    max_ts: int
    streams: Mapping[int, StreamRange]
    templates: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was acknowledged at one moment; segments first."""

    parts: tuple[Part, ...]
    streams: Streams


def segment_part(directory: Path, found: Segment, held: Mapping[int, StreamRange]) -> Part:
    """A segment below `directory`, with what it holds of each stream."""
    path = directory / "segments" / found.name
    return Part(path, (), found.rows, found.min_ts, found.max_ts, held, found.templates or None)


def memory_part(table: MemoryTable) -> Part:
    """A memory table as it is now."""
    # Copies: the commit thread goes on widening the ranges.
    held = {stream: StreamRange(r.rows, r.min_ts, r.max_ts) for stream, r in table.streams.items()}
    low, high = min(r.min_ts for r in held.values()), max(r.max_ts for r in held.values())
    return Part(None, tuple(table.batches), table.rows, low, high, held)
