"""How much is stored of which streams, and when: entries, and bytes of their lines.

What a segment's catalogue row tells for certain is taken from there; the rest is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atalaia.query.engine import Engine
from atalaia.query.ticket import Ticket
from atalaia.store.relation import chosen, relation, streams_in
from atalaia.store.snapshot import Part

_WIDEST = 2**62  # ns; a longer time is counted with larger integers


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
    """Arrays of one length, each stream and cell once. `pieces`: streams in segments and memory tables, one by one."""

    streams: np.ndarray
    cells: np.ndarray
    entries: np.ndarray
    line_bytes: np.ndarray
    pieces: int

    @classmethod
    def of(cls, columns: Sequence[np.ndarray], pieces: int) -> Counts:
        """Of streams, cells, entries and bytes, of which a stream and cell may stand there several times."""
        streams, cells, entries, line_bytes = columns
        keys, inverse = np.unique(np.stack([streams, cells]), axis=1, return_inverse=True)
        rows, sizes = np.zeros(keys.shape[1], np.int64), np.zeros(keys.shape[1], np.int64)
        np.add.at(rows, inverse.reshape(-1), entries)
        np.add.at(sizes, inverse.reshape(-1), line_bytes)
        return cls(keys[0], keys[1], rows, sizes, pieces)


def count(engine: Engine, ticket: Ticket, parts: Sequence[Part], ids: np.ndarray, window: Window) -> Counts:
    """What parts hold of the streams `ids` (ascending) in a window; exact, as deletions leave it."""
    some = chosen(parts, ids, window.start, window.end)
    columns = [[np.zeros(0, np.int64)] for _ in range(4)]
    unread: dict[bytes, tuple[np.ndarray, list[Part]]] = {}
    pieces = 0
    for part in some:
        told, left = _told(part, ids, window)
        pieces += (len(told[0]) + len(left)) if part.held is not None else 0
        for column, values in zip(columns, told, strict=True):
            column.append(values)
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
            for column, found in zip(columns, rows.columns, strict=True):
                column.append(found.to_numpy().astype(np.int64))
            if any(part.held is None for part in alike):
                pieces += len(np.unique(rows.column(0).to_numpy()))
    return Counts.of([np.concatenate(column) for column in columns], pieces)


def _told(part: Part, ids: np.ndarray, window: Window) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Streams, cells, entries and bytes that the part's own list tells for certain, and the streams to be read."""
    held = part.held
    if held is None:
        return tuple(np.zeros(0, np.int64) for _ in range(4)), ids
    wanted = held.within(window.start, window.end) & np.isin(held.streams, ids)
    certain = wanted & (held.min_ts >= window.start) & (held.max_ts < window.end)
    certain &= window.cells(held.min_ts) == window.cells(held.max_ts)
    if part.path is None:
        certain &= False  # a memory table does not count bytes
    for deletion in part.hidden:
        certain &= ~np.isin(held.streams, deletion.streams)
    told = held.streams, window.cells(held.min_ts), held.rows, held.line_bytes
    return tuple(column[certain].astype(np.int64) for column in told), held.streams[wanted & ~certain]


def present(engine: Engine, ticket: Ticket, parts: Sequence[Part], ids: np.ndarray, start: int, end: int) -> np.ndarray:
    """Those of the streams `ids` that have entries in [start, end) ns; about, where parts tell without being read."""
    if not len(ids):
        return ids
    last = int(ids[-1])
    seen = np.zeros(last + 1, bool)
    unknown = [part for part in parts if part.max_ts >= start and part.min_ts < end]
    for part in unknown:
        if part.held is not None:
            found = part.held.streams[part.held.within(start, end)]
            seen[found[found <= last]] = True
    for part in unknown:
        if part.held is None and not seen[ids].all():
            with engine.cursor(ticket) as connection:
                found = np.fromiter(streams_in(connection, part, start, end), np.int32)
            seen[found[found <= last]] = True
    return np.asarray(ids[seen[ids]])
