"""Range aggregations over a store: entries -> samples -> partial states -> series."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.environment.errors import InputError
from atalaia.logql import rows
from atalaia.logql.conditions import Inexpressible
from atalaia.logql.entry import Entry
from atalaia.logql.extract import ERROR, PARSER_ERRORS
from atalaia.logql.linefilters import needed
from atalaia.logql.literals import quote
from atalaia.logql.matrix import Labels, Matrix, absent
from atalaia.logql.overtime import kept, of_samples
from atalaia.logql.plan import Pipeline, Streams, compile_pipeline
from atalaia.logql.samples import Samples, fails, keeps_errors, samples_of
from atalaia.logql.select import matcher_tests
from atalaia.logql.series import grouping_of, labels_of
from atalaia.logql.slide import slide, slide_samples
from atalaia.logql.sqltext import literal as quoted
from atalaia.logql.tree import Grouping, LogQuery, RangeAggregation
from atalaia.logql.window import Grid
from atalaia.query.engine import Engine
from atalaia.query.ticket import Ticket
from atalaia.store.decide import LineCondition, LineTest
from atalaia.store.relation import relation
from atalaia.store.snapshot import Part, Snapshot
from atalaia.store.streams import ORIGINAL, TENANT, Selection
from atalaia.store.streams import Streams as StoredStreams

MAX_SERIES = 20_000
MAX_POINTS = 10_000_000  # of all series together
MAX_SAMPLES = 5_000_000  # where the samples themselves are needed
_BATCH = 100_000  # rows that Python takes at a time
_ENTRIES = "entries"
_COLUMNS = "ts, seq, stream_id, line, metadata"
Tenants = tuple[str, ...]
"""The tenants whose entries are asked for."""


@dataclass(frozen=True, slots=True)
class _Selected(Streams):
    """Streams of a store, which can count without looking at each."""

    labels: Selection

    def having(self, name: str) -> int:
        """See Streams."""
        return self.labels.having(name)

    def looked_up(self, name: str) -> str | None:
        """See Streams."""
        return _of_tenants(self, name) if self.labels.tenanted else Streams.looked_up(self, name)


def _of_tenants(streams: Streams, name: str) -> str | None:
    """SQL that looks a label up: what tells tenants apart is no label in the store."""
    if name == TENANT:
        return "stream_tenant(stream_id)"
    if name == ORIGINAL:
        return f"stream_label(stream_id, {quoted(TENANT)})" if streams.having(name) else None
    return Streams.looked_up(streams, name)


def streams_of(query: LogQuery, tenants: Tenants, snapshot: Snapshot) -> Streams:
    """The streams that a query selects."""
    return _Selected(selected(snapshot, tenants, matcher_tests(query.selector)))


def streams_at(streams: StoredStreams, tenants: Tenants, ids: Collection[int]) -> Streams:
    """Some streams of the tenants, by number."""
    return _Selected(Selection(streams, np.array(sorted(ids), np.int32), tenanted=len(tenants) > 1))


def selected(
    snapshot: Snapshot, tenants: Tenants, tests: Sequence[tuple[str, Callable[[str], bool]]] = ()
) -> Selection:
    """Streams of the tenants whose labels pass all `tests`; several tenants' have the label __tenant_id__."""
    if len(tenants) == 1:
        return snapshot.streams.select(tenants[0], tests)
    return snapshot.streams.across(tenants, tests)


def line_conditions(pipeline: Pipeline) -> tuple[LineCondition, ...]:
    """The line filters in the store's own words, by which it can pass over what they exclude."""
    return tuple(
        LineCondition(sql, tuple(LineTest(*test) for test in needed(stage)), stage.op.startswith("!"))
        for stage, sql in zip(pipeline.lines, pipeline.line_sql, strict=True)
    )


@dataclass(frozen=True, slots=True)
class RangeQuery:
    """A range aggregation over some parts of a store, for moments."""

    engine: Engine
    ticket: Ticket
    parts: Sequence[Part]
    streams: Streams
    tree: RangeAggregation
    grouping: Grouping | None
    grid: Grid

    def matrix(self) -> Matrix:
        """Its series. Raises InputError where an entry has an error, or where there are too many series."""
        run = rows.pipeline(self.tree)
        found = self._read(run) if self.parts else Matrix.empty(self.grid.steps)
        return absent(self.tree.query.selector, found) if self.tree.op == "absent_over_time" else found

    def _read(self, run: rows.Run) -> Matrix:
        pipeline = compile_pipeline(self.tree.query, self.streams)
        if gap := self.grid.gap_sql():
            pipeline.conditions.append(gap)
        with self.engine.cursor(self.ticket) as connection:
            try:
                samples = samples_of(pipeline, self.tree, self.grouping, _ENTRIES)
                sql = self._over_entries(connection, pipeline, self._by_series(samples))
                tables: list[pa.Table] = [connection.sql(sql).to_arrow_table()]
                self._check(len(tables[0]))
                if pc.any(tables[0].column("fault")).as_py():
                    sql = f"SELECT {_COLUMNS} FROM ({samples.sql}) WHERE fault ORDER BY ts, seq LIMIT 1"
                    (row,) = connection.execute(self._over_entries(connection, pipeline, sql)).fetchall()
                    ts, _, stream, line, metadata = row
                    raise _failed(run(ts, line, self.streams.labels[stream], metadata or {}))
            except Inexpressible:
                samples, tables = self._in_python(connection, pipeline, run)
        keys = [
            key
            for table in tables
            for key in zip(*(table.column(n).to_pylist() for n in range(samples.keys)), strict=True)
        ]
        labels, numbers = _numbered([samples.labels(key) for key in keys])
        lists = pa.concat_tables(tables).column("kept")
        counts = pc.list_value_length(lists).to_numpy()
        if (states := kept(self.tree)) is None and counts.sum() > MAX_SAMPLES:
            raise InputError(
                f"{self.tree.op} looks at more than {MAX_SAMPLES} samples at once",
                "ask for a shorter time, or fewer streams",
            )
        series = np.repeat(numbers, counts)
        columns = tuple(part.to_numpy() for part in pc.list_flatten(lists).flatten())
        self.ticket.passed += len(series) if states is None else int(columns[1].sum())
        self._check(len(labels))
        if states is None:
            return slide_samples(self.grid, labels, series, columns, of_samples(self.tree), self.ticket.check)
        return slide(self.grid, labels, series, columns[0], columns[1:], states, self.ticket.check)

    def _over_entries(self, connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, sql: str) -> str:
        """A statement over _ENTRIES, with what that stands for; by now the pipeline has named all it needs of it."""
        first, last = self.grid.first + 1, self.grid.last + 1
        ids, lines = self.streams.labels, line_conditions(pipeline)
        readings, check = self.ticket.readings, self.ticket.check
        source = relation(
            connection, self.parts, ids, first, last, lines, keys=pipeline.keys, readings=readings, check=check
        )
        # Segments may have been verified meanwhile, which no interrupt ends.
        check()
        statement = f"WITH {_ENTRIES} AS NOT MATERIALIZED ({source}) {sql}"
        self.ticket.statements.append(statement)
        return statement

    def _by_series(self, samples: Samples) -> str:
        """SQL of a row a series: its keys, what is kept of its samples, and whether an entry fails the query."""
        if (states := kept(self.tree)) is not None:
            return samples.aggregated(self.grid, [sql for sql, _ in states.columns], MAX_SERIES + 1)
        return samples.collected(MAX_SERIES + 1, MAX_SAMPLES + 1)

    def _in_python(
        self, connection: duckdb.DuckDBPyConnection, pipeline: Pipeline, run: rows.Run
    ) -> tuple[Samples, list[pa.Table]]:
        """The same where SQL cannot say all of the pipeline, part by part; what it can say chooses the entries."""
        grouping = grouping_of(self.tree, self.grouping)
        kept_errors = keeps_errors(self.tree, self.grouping)
        failing, sized = fails(self.tree, self.grouping), self.tree.op.startswith("bytes")
        numbers: dict[Labels, int] = {}
        labels: list[Labels] = []
        samples = Samples("SELECT *, false AS fault FROM python_samples", 1, lambda key: labels[key[0]])
        tables = [self._aggregated(connection, samples, [])]
        sql = f"SELECT {_COLUMNS} FROM {_ENTRIES}{pipeline.where(lines=False)}"
        for batch in connection.sql(self._over_entries(connection, pipeline, sql)).to_arrow_reader(_BATCH):
            found: list[tuple[int, int, int, float]] = []
            entries = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            for ts, seq, stream, line, metadata in entries:
                self.ticket.check()  # at each one: a template may take tens of ms
                entry = run(ts, line, self.streams.labels[stream], dict(metadata or ()))
                if entry is None:
                    continue
                if failing and (error := entry.fault.get(ERROR)) and not (kept_errors and error in PARSER_ERRORS):
                    raise _failed(entry)
                if not kept_errors:
                    entry.fault = {}
                value = float(len(entry.line.encode())) if sized else entry.value
                key = labels_of(entry, grouping)
                if key not in numbers:
                    numbers[key] = len(labels)
                    labels.append(key)
                found.append((numbers[key], ts, seq, value))
            self._check(len(labels))
            tables.append(self._aggregated(connection, samples, found))
        return samples, tables

    def _aggregated(
        self, connection: duckdb.DuckDBPyConnection, samples: Samples, found: list[tuple[int, int, int, float]]
    ) -> pa.Table:
        with contextlib.closing(connection.cursor()) as another:  # the first one is being read from
            another.register("python_samples", _sample_table(found))
            return another.sql(self._by_series(samples)).to_arrow_table()

    def _check(self, series: int) -> None:
        if series > MAX_SERIES:
            raise InputError(f"the query has more than {MAX_SERIES} series", "group by fewer labels: sum by (…) (…)")
        if series * self.grid.steps > MAX_POINTS:
            raise InputError(
                f"the query has {series} series of {self.grid.steps} points; at most {MAX_POINTS} points are answered",
                "ask for a larger step, or group by fewer labels",
            )


def _sample_table(samples: list[tuple[int, int, int, float]]) -> pa.Table:
    columns = list(zip(*samples, strict=True)) or [()] * 4
    kinds = (pa.int64(), pa.int64(), pa.int64(), pa.float64())
    arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
    return pa.table(arrays, names=["k0", "ts", "seq", "v"])


def _failed(entry: Entry | None) -> InputError:
    labels = entry.all() if entry else {}
    kind = labels.get(ERROR, "")
    shown = ", ".join(f"{name}={quote(value)}" for name, value in sorted(labels.items()))
    return InputError(
        f"pipeline error: '{kind}' for series {{{shown[:1000]}}}",
        f'leave such entries out with | {ERROR}!="{kind}", or all that have an error with | {ERROR}=""',
    )


def _numbered(keys: list[Labels]) -> tuple[list[Labels], np.ndarray]:
    """The series in the order of their labels, so that equal queries have equal answers, and the number of each key."""
    labels = sorted(set(keys))
    numbers = {key: number for number, key in enumerate(labels)}
    return labels, np.array([numbers[key] for key in keys], np.int64)
