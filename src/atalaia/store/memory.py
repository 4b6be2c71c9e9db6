"""The memory table: acknowledged entries that are not in a segment yet, as Arrow batches in order of arrival."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from atalaia.store.batch import METADATA, Source

SCHEMA = pa.schema(
    [
        ("ts", pa.int64()),
        ("seq", pa.int64()),
        ("stream_id", pa.int32()),
        ("line", pa.utf8()),
        ("metadata", METADATA),
    ]
)


@dataclass(slots=True)
class StreamRange:
    """What a stream has in one place: entries and the range of their timestamps (both ends included)."""

    rows: int
    min_ts: int
    max_ts: int

    def widen(self, other: StreamRange) -> None:
        """Take in another range."""
        self.rows += other.rows
        self.min_ts = min(self.min_ts, other.min_ts)
        self.max_ts = max(self.max_ts, other.max_ts)


@dataclass(slots=True)
class MemoryTable:
    """One generation. `batches` only ever grows, so a reader may keep a slice of it.

    `born` and `touched`: when its first and its last batch came, by a clock that is never set (s).
    """

    generation: int
    batches: list[pa.RecordBatch] = field(default_factory=list)
    streams: dict[int, StreamRange] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    rows: int = 0
    size: int = 0
    born: float = 0.0
    touched: float = 0.0

    @property
    def first_seq(self) -> int:
        """The number of its first entry; there is none as long as it has no rows."""
        return int(self.batches[0].column("seq")[0].as_py())

    def add(self, batch: pa.RecordBatch, sources: tuple[Source, ...]) -> Collection[int]:
        """Take in a batch of `SCHEMA` that is durable already; the numbers of its streams."""
        if len(batch):
            self.batches.append(batch)
            self.rows += len(batch)
            self.size += batch.get_total_buffer_size()
        for source in sources:
            self.sources[source.id] = source.end
        added = ranges(batch.column("stream_id").to_numpy(), batch.column("ts").to_numpy())
        for stream, found in added.items():
            if stream in self.streams:
                self.streams[stream].widen(found)
            else:
                self.streams[stream] = found
        return added.keys()


def ranges(streams: np.ndarray, ts: np.ndarray) -> dict[int, StreamRange]:
    """Rows and time range of each stream."""
    if not len(streams):
        return {}
    if streams[0] == streams[-1] and (streams == streams[0]).all():
        return {int(streams[0]): StreamRange(len(ts), int(ts.min()), int(ts.max()))}
    order = np.argsort(streams, kind="stable")
    ids, starts = np.unique(streams[order], return_index=True)
    sorted_ts = ts[order]
    counts = np.diff(np.append(starts, len(ts)))
    lows, highs = np.minimum.reduceat(sorted_ts, starts), np.maximum.reduceat(sorted_ts, starts)
    return {
        int(i): StreamRange(int(n), int(lo), int(hi)) for i, n, lo, hi in zip(ids, counts, lows, highs, strict=True)
    }
