"""What people ask of a store before they ask for lines: its labels, its streams, how much there is of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atalaia.logql.plan import compile_pipeline
from atalaia.logql.select import matcher_tests
from atalaia.logql.tree import LogQuery, Selector
from atalaia.query import counting, patterns, volume
from atalaia.query.counting import Window
from atalaia.query.engine import Engine
from atalaia.query.ranges import Tenants, line_conditions, selected, streams_of
from atalaia.query.ticket import Ticket
from atalaia.store.relation import chosen, numbers
from atalaia.store.snapshot import Snapshot
from atalaia.store.store import Store


@dataclass(frozen=True, slots=True)
class Stats:
    """Of a selector and a time: its streams, their pieces in segments and memory tables, bytes of lines, entries."""

    streams: int
    chunks: int
    bytes: int
    entries: int


class Explorer:
    """Such questions to one store."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine

    def stats(self, tenants: Tenants, selector: Selector, window: Window, ticket: Ticket) -> Stats:
        """How much a window holds of the selected streams."""
        with self._store.snapshot() as snapshot:
            ids = _selected(tenants, selector, snapshot)
            found = counting.count(self._engine, ticket, snapshot.parts, ids, window)
            totals = int(found.line_bytes.sum()), int(found.entries.sum())
            return Stats(len(np.unique(found.streams)), found.pieces, *totals)

    def volumes(self, tenants: Tenants, asked: volume.Asked, window: Window, ticket: Ticket) -> list[volume.Volume]:
        """Bytes of lines by labels, in a window or each of its cells."""
        with self._store.snapshot() as snapshot:
            ids = _selected(tenants, asked.selected(), snapshot)
            counts = counting.count(self._engine, ticket, snapshot.parts, ids, window)
            return volume.volumes(selected(snapshot, tenants), ids, counts, asked)

    def patterns(
        self, tenants: Tenants, query: LogQuery, window: Window, limit: int, ticket: Ticket
    ) -> list[patterns.Found]:
        """The patterns of the lines that a selector and line filters find."""
        with self._store.snapshot() as snapshot:
            streams = streams_of(query, tenants, snapshot)
            lines = line_conditions(compile_pipeline(query, streams))
            parts = chosen(snapshot.parts, streams.labels, window.start, window.end)
            asked = patterns.Asked(numbers(streams.labels), lines, window, limit)
            return patterns.patterns(self._engine, ticket, parts, asked)

    def labels(
        self,
        tenants: Tenants,
        selectors: Sequence[Selector],
        start: int,
        end: int,
        ticket: Ticket,
        only: str | None = None,
    ) -> dict[str, list[str]]:
        """The labels, or `only` one, of the streams with entries in [start, end] ns, each with its values.

        Of all streams, or those that any selector selects.
        """
        with self._store.snapshot() as snapshot:
            found = self._streams(tenants, selectors, start, end, snapshot, ticket)
            every = selected(snapshot, tenants)
            names = [only] if only is not None else every.names_of(found)
            return {name: every.distinct(found, name) for name in names}

    def series(
        self, tenants: Tenants, selectors: Sequence[Selector], start: int, end: int, ticket: Ticket
    ) -> list[dict[str, str]]:
        """The label sets of those streams."""
        with self._store.snapshot() as snapshot:
            return self._sets(tenants, self._streams(tenants, selectors, start, end, snapshot, ticket), snapshot)

    @staticmethod
    def _sets(tenants: Tenants, ids: np.ndarray, snapshot: Snapshot) -> list[dict[str, str]]:
        every = selected(snapshot, tenants)
        return [dict(every[number]) for number in ids.tolist()]

    def _streams(
        self,
        tenants: Tenants,
        selectors: Sequence[Selector],
        start: int,
        end: int,
        snapshot: Snapshot,
        ticket: Ticket,
    ) -> np.ndarray:
        wanted = [_selected(tenants, selector, snapshot) for selector in selectors or (Selector(()),)]
        ids = np.unique(np.concatenate(wanted))
        return counting.present(self._engine, ticket, snapshot.parts, ids, start, end + 1)


def _selected(tenants: Tenants, selector: Selector, snapshot: Snapshot) -> np.ndarray:
    return selected(snapshot, tenants, matcher_tests(selector)).ids
