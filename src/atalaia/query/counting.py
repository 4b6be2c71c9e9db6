"""How much is stored of which streams, and when: entries, and bytes of their lines.

What a segment's catalogue row tells for certain is taken from there; the rest is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atalaia.query.engine import Engine
from atalaia.query.ticket import Ticket
from atalaia.store.held import Held
from atalaia.store.relation import relation, streams_in
from atalaia.store.snapshot import Part

_WIDEST = 2**62  # ns; a longer time is counted with larger integers
_WAITING = 2_000_000  # rows that wait to be added up
_DENSE = 1 << 22  # numbers of stream and cell that are counted in one array


@dataclass(frozen=True, slots=True)
class Window:
    """[start, end) ns, cut at the multiples of `step` ns; not at all without one."""

    start: int
    end: int
    step: int | None = None

    def cell_sql(self) -> str:
        """SQL of the cell of an entry: its time divided by the step, downwards."""
        if self.step is None:
            return "0::BIGINT"
        # DuckDB divides towards zero: times are made positive first.
        first = self.start // self.step
        ts = "ts" if self.end - first * self.step < _WIDEST else "ts::HUGEINT"
        return f"(({ts} - ({first * self.step:d})) // {self.step:d} + ({first:d}))::BIGINT"

    def cells(self, ts: np.ndarray) -> np.ndarray:
        """The same for many times."""
        return np.zeros(len(ts), np.int64) if self.step is None else ts.astype(np.int64) // self.step


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Arrays of one length, each stream and cell once, in their order.

    `pieces`: streams in segments and memory tables, one by one.
    """

    streams: np.ndarray
    cells: np.ndarray
    entries: np.ndarray
    line_bytes: np.ndarray
    pieces: int = 0


class Sums:
    """Adds up entries and bytes by stream (or any small number) and cell."""

    def __init__(self) -> None:
        self._columns: list[list[np.ndarray]] = [[np.zeros(0, np.int64)] for _ in range(4)]
        self._waiting = 0

    def add(self, streams: np.ndarray, cells: np.ndarray, entries: np.ndarray, line_bytes: np.ndarray) -> None:
        """Some more; a stream and cell may stand there several times."""
        for column, values in zip(self._columns, (streams, cells, entries, line_bytes), strict=True):
            column.append(values.astype(np.int64))
        self._waiting += len(streams)
        if self._waiting > _WAITING:
            found = self.counts()
            self._columns = [[found.streams], [found.cells], [found.entries], [found.line_bytes]]
            self._waiting = 0

    def counts(self, pieces: int = 0) -> Counts:
        """What was added."""
        streams, cells, entries, line_bytes = (np.concatenate(column) for column in self._columns)
        if not len(streams):
            return Counts(streams, cells, entries, line_bytes, pieces)
        first = int(cells.min())
        width = int(cells.max()) - first + 1
        keys = streams * width + (cells - first)
        size = (int(streams.max()) + 1) * width
        if size > max(_DENSE, len(keys)):
            used, keys = np.unique(keys, return_inverse=True)
            size = len(used)
        else:
            used = np.flatnonzero(np.bincount(keys, minlength=size))
        # Sums of integers as floats are exact up to 2**53.
        entries, line_bytes = (np.bincount(keys, column, size).astype(np.int64) for column in (entries, line_bytes))
        if size > len(used):
            entries, line_bytes = entries[used], line_bytes[used]
        return Counts(used // width, used % width + first, entries, line_bytes, pieces)


def count(engine: Engine, ticket: Ticket, parts: Sequence[Part], ids: np.ndarray, window: Window) -> Counts:
    """What parts hold of the streams `ids` (ascending) in a window; exact, as deletions leave it."""
    sums = Sums()
    if not len(ids):
        return sums.counts()
    wanted = np.zeros(int(ids[-1]) + 2, bool)  # the last one is for streams behind all of them
    wanted[ids] = True
    unread: dict[bytes, tuple[np.ndarray, list[Part]]] = {}
    pieces = 0
    for part in parts:
        if part.max_ts < window.start or part.min_ts >= window.end:
            continue
        ticket.check()
        if part.held is None:
            left = ids
        else:
            some, certain = _told(part.held, part, wanted, window)
            pieces += int(some.sum())
            held = (part.held.streams, part.held.min_ts, part.held.rows, part.held.line_bytes)
            streams, ts, rows, sizes = (column[certain] for column in held)
            sums.add(streams, window.cells(ts), rows, sizes)
            left = part.held.streams[some & ~certain]
        if len(left):
            unread.setdefault(left.tobytes(), (left, []))[1].append(part)
    with engine.cursor(ticket) as connection:
        for left, alike in unread.values():
            source = relation(connection, alike, left, window.start, window.end, check=ticket.check)
            ticket.check()
            rows = connection.sql(
                f"SELECT stream_id, {window.cell_sql()}, count(*), sum(strlen(line))::BIGINT FROM ({source})"
                " GROUP BY ALL"
            ).to_arrow_table()
            found = [column.to_numpy() for column in rows.columns]
            sums.add(*found)
            if any(part.held is None for part in alike):
                pieces += len(np.unique(found[0]))
    return sums.counts(pieces)


def _told(held: Held, part: Part, wanted: np.ndarray, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Which of a part's streams are wanted, and of which of those its own list tells all for certain."""
    some = held.within(window.start, window.end) & wanted[np.minimum(held.streams, len(wanted) - 1)]
    if part.path is None:
        return some, np.zeros(len(some), bool)  # a memory table does not count bytes
    certain = some & (held.min_ts >= window.start) & (held.max_ts < window.end)
    certain &= window.cells(held.min_ts) == window.cells(held.max_ts)
    for deletion in part.hidden:
        certain &= ~np.isin(held.streams, deletion.streams)
    return some, certain


def present(engine: Engine, ticket: Ticket, parts: Sequence[Part], ids: np.ndarray, start: int, end: int) -> np.ndarray:
    """Those of the streams `ids` that have entries in [start, end) ns; about, where parts tell without being read."""
    if not len(ids):
        return ids
    last = int(ids[-1])
    seen = np.zeros(last + 1, bool)
    unknown = [part for part in parts if part.max_ts >= start and part.min_ts < end]
    for part in unknown:
        if part.held is not None:
            found = part.held.streams[part.held.within(start, end) & ~_gone(part, part.held)]
            seen[found[found <= last]] = True
    for part in unknown:
        if part.held is None and not seen[ids].all():
            with engine.cursor(ticket) as connection:
                found = np.fromiter(streams_in(connection, part, start, end), np.int32)
            seen[found[found <= last]] = True
    return np.asarray(ids[seen[ids]])


def _gone(part: Part, held: Held) -> np.ndarray:
    """Which streams of a part have no entry left, since a deletion takes all that they had."""
    gone = np.zeros(len(held), bool)
    for deletion in part.hidden:
        last = part.segment.last_seq if part.segment else part.batches[-1].column("seq")[-1].as_py()
        if not deletion.conditions and last <= deletion.seq:
            covered = (held.min_ts >= deletion.start) & (held.max_ts < deletion.end)
            gone |= covered & np.isin(held.streams, deletion.streams)
    return gone
