"""What a query sees of a store: all that was acknowledged at one moment, in parts."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from atalaia.store.compact import index_path
from atalaia.store.deletion import Deletion
from atalaia.store.held import MOST, Held
from atalaia.store.index import IndexFile, SegmentIndex
from atalaia.store.intact import Intact
from atalaia.store.memory import MemoryTable
from atalaia.store.segment import Made, Segment
from atalaia.store.streams import Streams


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A segment or a memory table as a snapshot sees it.

    `held` is None when it has too many streams to tell; `groups` are the row groups it stands for, None for all;
    `hidden` are the deletions that hide some of its entries; `intact` is None when the file needs no look.
    """

    rows: int
    min_ts: int
    max_ts: int
    first_seq: int
    held: Held | None
    path: Path | None = None
    segment: Segment | None = None
    index_file: IndexFile | None = None
    intact: Intact | None = None
    groups: np.ndarray | None = None
    batches: tuple[pa.RecordBatch, ...] = ()
    hidden: tuple[Deletion, ...] = ()

    def without(self, deletions: Sequence[Deletion]) -> Part:
        """The same, with what deletions hide of it."""
        purged = self.segment.purged if self.segment else 0
        hidden = tuple(
            deletion
            for deletion in deletions
            if deletion.touches(purged, self.first_seq, self.min_ts, self.max_ts, self.held)
        )
        return replace(self, hidden=hidden) if hidden else self

    @property
    def index(self) -> SegmentIndex | None:
        """What its row groups hold; None for no index."""
        return self.index_file.get() if self.index_file is not None else None

    def readable(self) -> bool:
        """Whether its file is undamaged; reads all of it when that is first asked for."""
        return self.intact is None or self.intact.get()

    def may_hold(self, ids: np.ndarray, start: int, end: int) -> bool:
        """Whether it may have entries of the streams `ids` in [start, end) ns."""
        if self.max_ts < start or self.min_ts >= end:
            return False
        return self.held is None or bool(np.isin(self.held.streams[self.held.within(start, end)], ids).any())

    def bands(self) -> Iterator[Part]:
        """The same in parts that are narrow in time, as far as there are any."""
        index = self.index
        if index is None or self.groups is not None:
            yield self
            return
        for band in np.unique(index.band):
            groups = np.flatnonzero(index.band == band)
            yield replace(
                self,
                rows=int(index.rows[groups].sum()),
                min_ts=int(index.min_ts[groups].min()),
                max_ts=int(index.max_ts[groups].max()),
                groups=groups,
            )


def in_order(parts: Iterable[Part], backward: bool) -> Iterator[Part]:
    """Parts and bands of parts, by their last timestamp downwards or by their first upwards; opened when it is due."""
    waiting = [(_edge(part, backward), number, False, part) for number, part in enumerate(parts)]
    heapq.heapify(waiting)
    number = len(waiting)
    while waiting:
        _, _, opened, part = heapq.heappop(waiting)
        if opened:
            yield part
            continue
        for band in part.bands():
            number += 1
            heapq.heappush(waiting, (_edge(band, backward), number, True, band))


def _edge(part: Part, backward: bool) -> int:
    return -part.max_ts if backward else part.min_ts


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything that was acknowledged at one moment; segments first. It has all entries numbered below `seq`."""

    parts: tuple[Part, ...]
    streams: Streams
    seq: int


def segment_part(folder: Path, made: Made, damaged: Callable[[str, str], None] | None = None) -> Part:
    """A segment whose file is in `folder`. `damaged`, told as by `Intact`: the file is verified before it is read."""
    found, path = made.segment, folder / made.segment.name
    index = None
    if found.index_size:
        index = IndexFile(index_path(folder, found), found.index_size, found.index_crc32)
    intact = Intact(path, found.size, found.crc32, damaged) if damaged else None
    return Part(found.rows, found.min_ts, found.max_ts, found.first_seq, made.held, path, found, index, intact)


def memory_part(table: MemoryTable) -> Part:
    """A memory table as it is now."""
    streams = table.streams
    ranges = list(streams.values())
    held = None
    if len(streams) <= MOST:
        # Copies: the commit thread goes on widening the ranges.
        numbers = np.fromiter(streams, np.int32, len(ranges))
        columns = np.array([(r.rows, 0, r.min_ts, r.max_ts) for r in ranges], np.int64).T
        order = np.argsort(numbers)
        held = Held(numbers[order], *(column[order] for column in columns))
    low, high = min(r.min_ts for r in ranges), max(r.max_ts for r in ranges)
    return Part(table.rows, low, high, table.first_seq, held, batches=tuple(table.batches))
