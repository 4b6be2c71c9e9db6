"""What segments hold of each retention rule's streams, kept in memory as long as the segments exist."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atalaia.store.held import Held
from atalaia.store.retention import Due, Holding, Piece, Retention, due
from atalaia.store.snapshot import Part
from atalaia.store.streams import Streams

log = logging.getLogger("atalaia.store")
_EVER = -(2**63)


class Ledger:
    """Used by one thread. A rule is asked once about a stream; a segment is read only where retention.py must know."""

    def __init__(self, retention: Retention, streams: Streams) -> None:
        self.retention = retention
        self._streams = streams
        self._rules = np.zeros(1, np.int16)  # by the number of the stream
        self._parts: dict[str, Part] = {}
        self._pieces: dict[str, tuple[Piece, ...]] = {}
        self._edges: dict[tuple[str, int | None, int], int] = {}

    def due(self, parts: Sequence[Part], now: int, fixed: Collection[str] | None = None) -> list[Due]:
        """What of the segments among `parts` is to go at `now` (ns). `fixed`: cannot be written again; None for all."""
        self._parts = {part.segment.name: part for part in parts if part.segment is not None}
        self._pieces = {name: self._pieces.get(name) or self._of(part) for name, part in self._parts.items()}
        self._edges = {key: edge for key, edge in self._edges.items() if key[0] in self._parts}
        holdings = [
            Holding(name, _size(part), part.min_ts, part.max_ts, self._pieces[name], fixed is None or name in fixed)
            for name, part in self._parts.items()
        ]
        return due(holdings, self.retention, now, self._edge)

    def oldest(self, cuts: Mapping[int, int]) -> Callable[[np.ndarray], np.ndarray]:
        """`cuts` (rule -> ns) as a function of entries' streams to the times before which they are to go."""
        limits = np.full(len(self.retention.rules) + 1, _EVER)
        for rule, before in cuts.items():
            limits[rule] = before
        return lambda streams: limits[self._rules_of(streams)]

    def _rules_of(self, streams: np.ndarray) -> np.ndarray:
        fresh = self._streams.since(len(self._rules) - 1)
        if fresh:
            more = np.zeros(fresh[-1].id + 1 - len(self._rules), np.int16)
            for stream in fresh:
                rules = enumerate(self.retention.rules, 1)
                found = (number for number, rule in rules if rule.holds(stream.tenant, stream.labels))
                more[stream.id - len(self._rules)] = next(found, 0)
            self._rules = np.concatenate([self._rules, more])
        return np.asarray(self._rules[streams])

    def _of(self, part: Part) -> tuple[Piece, ...]:
        """A segment in its pieces."""
        size = _size(part)
        if not self.retention.rules:
            return (Piece(0, size, part.min_ts, part.max_ts),)
        held = part.held
        if held is None:
            try:
                streams, ts = _entries(part)
            except (OSError, pa.ArrowException) as error:
                log.warning("event=retention_unread file=%s reason=%r", part.path, str(error))
                # It may have entries of any rule, so it goes when none would keep them.
                return tuple(Piece(n, 0, part.min_ts, part.max_ts) for n in range(len(self.retention.rules) + 1))
            held = Held.of(streams, ts, np.zeros(len(ts)))
        rules, weights = self._rules_of(held.streams), _weights(held)
        pieces = []
        for number in np.unique(rules).tolist():
            mine = rules == number
            share = -(-int(weights[mine].sum()) * size // int(weights.sum()))  # rounded up: nothing is too little to go
            pieces.append(Piece(number, share, int(held.min_ts[mine].min()), int(held.max_ts[mine].max())))
        return tuple(pieces)

    def _edge(self, name: str, rule: int | None, size: int) -> int:
        """retention.Edge; where the file cannot be read, a time before all, at which nothing is cut by size."""
        key = (name, rule, size)
        if key not in self._edges:
            try:
                self._edges[key] = self._read_edge(self._parts[name], rule, size)
            except (OSError, pa.ArrowException) as error:
                log.warning("event=retention_unread file=%s reason=%r", self._parts[name].path, str(error))
                self._edges[key] = _EVER
        return self._edges[key]

    def _read_edge(self, part: Part, rule: int | None, size: int) -> int:
        streams, ts = _entries(part)
        weights = np.ones(len(ts))
        if part.held is not None:
            # An entry weighs what those of its stream do on average.
            each = _weights(part.held) / part.held.rows
            weights = each[np.searchsorted(part.held.streams, streams)]
        weights *= _size(part) / weights.sum()
        if rule is not None:
            mine = self._rules_of(streams) == rule
            ts, weights = ts[mine], weights[mine]
        order = np.argsort(ts)[::-1]
        newest_first = ts[order]
        fit = min(int(np.searchsorted(np.cumsum(weights[order]), size, side="right")), len(ts) - 1)
        beyond = int(newest_first[fit])
        return beyond if fit and newest_first[fit - 1] == beyond else beyond + 1


def _size(part: Part) -> int:
    return part.segment.size + part.segment.index_size if part.segment is not None else 0


def _weights(held: Held) -> np.ndarray:
    """What each stream weighs: its lines, and a byte for each entry, which may be empty."""
    return np.asarray(held.line_bytes + held.rows)


def _entries(part: Part) -> tuple[np.ndarray, np.ndarray]:
    """Streams and times of a segment's entries. Raises OSError and what pyarrow raises for a damaged file."""
    table = pq.read_table(part.path, columns=["stream_id", "ts"], page_checksum_verification=True)
    return table.column("stream_id").to_numpy(), table.column("ts").to_numpy()
