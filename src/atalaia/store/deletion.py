"""Deletions: what is to be hidden at once, and removed from the files by compaction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa

from atalaia.store.decide import LineCondition, LineTest
from atalaia.store.held import Held
from atalaia.store.sql import in_streams, line_condition


@dataclass(frozen=True, slots=True, eq=False)
class Deletion:
    """Entries of `streams` with start <= ts < end (ns) and a seq up to `seq` whose line passes all `conditions`.

    `query` is how it was asked for; `requested` and `finished` are seconds since 1970, `finished` None while there is
    something left to do; `rows` counts the entries removed from files.
    """

    id: int
    tenant: str
    query: str
    start: int
    end: int
    seq: int
    streams: np.ndarray
    conditions: tuple[LineCondition, ...]
    requested: int
    finished: int | None = None
    rows: int = 0

    @classmethod
    def of_row(cls, row: tuple[Any, ...]) -> Deletion:
        """From a row of the catalogue."""
        number, tenant, query, start, end, seq, streams, conditions, requested, finished, rows = row
        read = tuple(
            line_condition(tuple(LineTest(text, regex) for text, regex in one["tests"]), one["negated"])
            for one in orjson.loads(conditions)
        )
        ids = np.frombuffer(streams, "<i4")
        return cls(number, tenant, query, start, end, seq, ids, read, requested, finished, rows)

    def row(self) -> tuple[Any, ...]:
        """The columns of the catalogue from `tenant` to `requested`."""
        conditions = orjson.dumps(
            [{"tests": [[t.text, t.regex] for t in c.tests], "negated": c.negated} for c in self.conditions]
        ).decode()
        streams = self.streams.astype("<i4").tobytes()
        return self.tenant, self.query, self.start, self.end, self.seq, streams, conditions, self.requested

    def touches(self, purged: int, first_seq: int, min_ts: int, max_ts: int, held: Held | None) -> bool:
        """Whether entries with these properties may have something to remove."""
        if purged >= self.id or first_seq > self.seq or max_ts < self.start or min_ts >= self.end:
            return False
        return held is None or bool(np.isin(held.streams[held.within(self.start, self.end)], self.streams).any())

    def sql(self, connection: duckdb.DuckDBPyConnection) -> str:
        """Which rows it removes; long lists of streams are registered with `connection`."""
        tests = [f"seq <= {self.seq:d}", f"ts >= {self.start:d}", f"ts < {self.end:d}"]
        tests.append(in_streams(connection, self.streams, f"deleted_streams_{self.id:d}"))
        return f"({' AND '.join([*tests, *(condition.sql for condition in self.conditions)])})"


class Eraser:
    """Removes from tables of entries what deletions take, and what is too old; counts it."""

    def __init__(self, deletions: Sequence[Deletion], oldest: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        """`oldest` gives, for entries' streams, the times (ns) before which they go."""
        self._deletions = deletions
        self._oldest = oldest
        self.removed = {deletion.id: 0 for deletion in deletions}
        self.expired = 0

    def __call__(self, table: pa.Table) -> pa.Table:
        """What is left of some entries (memory.SCHEMA)."""
        keep = np.ones(len(table), bool)
        if self._oldest is not None:
            keep = table.column("ts").to_numpy() >= self._oldest(table.column("stream_id").to_numpy())
            self.expired += len(table) - int(keep.sum())
        for deletion in self._deletions:
            gone = keep & self._matches(deletion, table)
            self.removed[deletion.id] += int(gone.sum())
            keep &= ~gone
        return table if keep.all() else table.filter(pa.array(keep))

    @staticmethod
    def _matches(deletion: Deletion, table: pa.Table) -> np.ndarray:
        with duckdb.connect(config={"threads": 1}) as connection:
            connection.register("entries", table.select(["ts", "seq", "stream_id", "line"]))
            found = connection.execute(f"SELECT seq FROM entries WHERE {deletion.sql(connection)}").fetchnumpy()
        return np.asarray(np.isin(table.column("seq").to_numpy(), np.asarray(found["seq"])))
