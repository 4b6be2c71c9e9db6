"""Answers LogQL from a store: snapshot -> relation -> SQL -> streams or series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from atalaia.api.engine import Engine
from atalaia.environment.errors import InputError
from atalaia.logql import evaluate, rows
from atalaia.logql.errors import NotBuilt
from atalaia.logql.extract import DETAILS, ERROR
from atalaia.logql.literals import quote
from atalaia.logql.matrix import Labels, Matrix, label_key
from atalaia.logql.plan import Parser, Pipeline, Streams, compile_pipeline, needs_parsing
from atalaia.logql.select import selector_test
from atalaia.logql.tree import Grouping, LogQuery, Metric, RangeAggregation, Selector
from atalaia.logql.window import Grid, slide
from atalaia.store.decide import LineCondition, LineTest
from atalaia.store.relation import chosen, relation, streams_in
from atalaia.store.snapshot import Snapshot, in_order
from atalaia.store.store import Store

MAX_SERIES = 20_000


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of an answer."""

    ts: int
    seq: int
    line: str
    seen: rows.Seen


class Executor:
    """Queries over one store."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine

    def _streams(self, query: LogQuery, tenant: str, snapshot: Snapshot) -> Streams:
        test = selector_test(query.selector)
        return Streams({s.id: s.labels for s in snapshot.streams.of(tenant) if test(s.labels)})

    def logs(self, query: LogQuery, tenant: str, start: int, end: int, limit: int, backward: bool) -> list[Row]:
        """The first `limit` entries of [start, end) ns in the given direction.

        Equal times are in order of arrival; a backward answer is the exact mirror of a forward one.
        """
        with self._store.snapshot() as snapshot:
            streams = self._streams(query, tenant, snapshot)
            pipeline = compile_pipeline(query, streams)
            where, lines = pipeline.where(lines=False), _line_conditions(pipeline)
            parts = in_order(chosen(snapshot.parts, streams.labels.keys(), start, end), backward)
            found: list[tuple[int, int, int, str, list[tuple[str, str]] | dict[str, str] | None]] = []
            width = 1
            while some := list(islice(parts, width)):
                # Parts come in the order of the answer; one that begins behind the last wanted entry cannot add to it.
                if len(found) >= limit:
                    edge = found[limit - 1][0]
                    if (some[0].max_ts < edge) if backward else (some[0].min_ts > edge):
                        break
                width *= 2
                order = "DESC" if backward else "ASC"
                with self._engine.cursor() as connection:
                    source = relation(
                        connection, some, streams.labels.keys(), start, end, lines, deletions=snapshot.deletions
                    )
                    columns = f"SELECT ts, seq, stream_id, line, metadata FROM ({source}){where}"
                    sql = f"{columns} ORDER BY ts {order}, seq {order} LIMIT {limit:d}"
                    found += connection.execute(sql).fetchall()
                found.sort(key=lambda row: (row[0], row[1]), reverse=backward)
                del found[limit:]
            return [self._row(query, streams, row) for row in found]

    @staticmethod
    def _row(query: LogQuery, streams: Streams, row: tuple[int, int, int, str, object]) -> Row:
        ts, seq, stream, line, metadata = row
        kept = metadata if isinstance(metadata, dict) else {}
        return Row(ts, seq, line, rows.labels_of(query, line, streams.labels[stream], kept))

    def series(self, tenant: str, selectors: Sequence[Selector], start: int, end: int) -> list[dict[str, str]]:
        """The label sets of the streams with entries in [start, end] ns that any selector selects; all without one."""
        tests = [selector_test(selector) for selector in selectors]
        with self._store.snapshot() as snapshot:
            seen: set[int] = set()
            with self._engine.cursor() as connection:
                for part in snapshot.parts:
                    seen |= streams_in(connection, part, start, end + 1)
            found = [snapshot.streams[i] for i in sorted(seen)]
        return [
            dict(stream.labels)
            for stream in found
            if stream.tenant == tenant and (not tests or any(test(stream.labels) for test in tests))
        ]

    def metric(self, tree: Metric, tenant: str, start: int, step: int, steps: int) -> Matrix:
        """The series of a metric query at `steps` moments from `start`, `step` ns apart."""
        with self._store.snapshot() as snapshot:

            def leaf(aggregation: RangeAggregation, grouping: Grouping | None) -> Matrix:
                grid = Grid(start - aggregation.offset_ns, step, steps, aggregation.range_ns)
                return self._range(aggregation, grouping, grid, tenant, snapshot)

            return evaluate.evaluate(tree, leaf, steps)

    def _range(
        self, tree: RangeAggregation, grouping: Grouping | None, grid: Grid, tenant: str, snapshot: Snapshot
    ) -> Matrix:
        if tree.op not in evaluate.COUNTING or tree.unwrap:
            raise NotBuilt(f"`{tree.op}`" + (" with unwrap" if tree.unwrap else ""))
        if grouping and grouping.without:
            raise NotBuilt("`without` inside a range aggregation")
        streams = self._streams(tree.query, tenant, snapshot)
        pipeline = compile_pipeline(tree.query, streams)
        first, last = grid.first + 1, grid.last + 1
        parts = chosen(snapshot.parts, streams.labels.keys(), first, last)
        if not parts:
            return Matrix.empty(grid.steps)
        where = pipeline.where(lines=False)
        if grouping is None:
            keys = ["stream_id", "metadata", *(sql for parser in pipeline.parsers for sql in _columns(parser))]
        elif all(pipeline.on_every_stream(name) for name in grouping.labels):
            keys = ["stream_id"] if grouping.labels else []
        else:
            keys = [pipeline.label(name) for name in grouping.labels]
        fault = pipeline.error if needs_parsing(tree.query, grouping) else None
        sample = "count(*)" if tree.op in ("count_over_time", "rate") else "sum(octet_length(encode(line)))"
        named = "".join(f"{sql} AS k{i}, " for i, sql in enumerate(keys))
        with self._engine.cursor() as connection:
            lines = _line_conditions(pipeline)
            source = relation(
                connection, parts, streams.labels.keys(), first, last, lines, deletions=snapshot.deletions
            )
            sums = f"max({fault or 'NULL::VARCHAR'}) AS fault, {grid.bucket_sql()} AS bucket, {sample}::DOUBLE AS v"
            sql = f"SELECT {named}{sums} FROM ({source}){where} GROUP BY ALL HAVING count(*) > 0"
            if keys in (["stream_id"], []) and fault is None:
                answer = connection.execute(sql).fetchnumpy()
                found = []
            else:
                answer = None
                found = connection.execute(sql).fetchall()
                if any(row[-3] is not None for row in found):
                    columns = "ts, seq, stream_id, line, metadata"
                    where += f" {'AND' if where else 'WHERE'} ({fault}) IS NOT NULL LIMIT 1"
                    row = connection.execute(f"SELECT {columns} FROM ({source}){where}").fetchall()[0]
                    raise _failed(self._row(tree.query, streams, row))
        if answer is not None:
            buckets, values = np.asarray(answer["bucket"], np.int64), np.asarray(answer["v"])
            if keys:
                labels, series = _stream_series(np.asarray(answer["k0"]), streams, grouping)
            else:
                labels, series = [()] if len(values) else [], np.zeros(len(values), np.int64)
        else:
            labels, series = _numbered([_key(row, keys, streams, pipeline, grouping) for row in found])
            buckets = np.array([row[-2] for row in found], np.int64)
            values = np.array([row[-1] for row in found], float)
        if len(labels) > MAX_SERIES:
            raise InputError(
                f"the query has {len(labels)} series; at most {MAX_SERIES} are answered",
                "group by fewer labels: sum by (…) (…)",
            )
        matrix = slide(grid, labels, series, buckets, values)
        scale = grid.range / 1e9 if tree.op in ("rate", "bytes_rate") else 1.0
        return Matrix(matrix.labels, matrix.values / scale, matrix.present)


def _line_conditions(pipeline: Pipeline) -> tuple[LineCondition, ...]:
    """The line filters in the store's own words, by which it can pass over what they exclude."""
    return tuple(
        LineCondition(
            tuple(LineTest(alternative.value, stage.op in ("|~", "!~")) for alternative in stage.alternatives),
            stage.op.startswith("!"),
        )
        for stage in pipeline.lines
    )


def _columns(parser: Parser) -> list[str]:
    """A parser's labels, as columns of a row."""
    return [parser.labels] if parser.labels is not None else list(parser.named.values())


def _failed(row: Row) -> InputError:
    labels = row.seen.all()
    kind = labels.get(ERROR, "")
    shown = ", ".join(f"{name}={quote(value)}" for name, value in labels.items())
    return InputError(
        f"pipeline error: '{kind}' for series {{{shown[:1000]}}}",
        f'leave such entries out with | {ERROR}!="{kind}", or all that have an error with | {ERROR}=""',
    )


def _numbered(keys: list[Labels]) -> tuple[list[Labels], np.ndarray]:
    numbers: dict[Labels, int] = {}
    series = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    return list(numbers), series


def _stream_series(ids: np.ndarray, streams: Streams, grouping: Grouping | None) -> tuple[list[Labels], np.ndarray]:
    distinct, inverse = np.unique(ids, return_inverse=True)
    names = grouping.labels if grouping else ()
    labels, numbers = _numbered([label_key({n: streams.labels[int(i)][n] for n in names}) for i in distinct])
    return labels, numbers[inverse] if len(numbers) else np.zeros(0, np.int64)


def _key(
    row: tuple[Any, ...], keys: list[str], streams: Streams, pipeline: Pipeline, grouping: Grouping | None
) -> Labels:
    """The labels of a row's series."""
    if grouping is not None:
        if keys == ["stream_id"]:
            own = streams.labels[row[0]]
            return label_key({name: own[name] for name in grouping.labels})
        return label_key({name: value for name, value in zip(grouping.labels, row, strict=False) if value})
    stream, metadata, *columns = row[:-3]
    at = iter(columns)
    found: dict[str, str] = {}
    for parser in pipeline.parsers:
        new = next(at) if parser.labels is not None else {name: next(at) for name in parser.named}
        found = {**{name: value for name, value in (new or {}).items() if value is not None}, **found}
    for name in (ERROR, DETAILS):
        found.pop(name, None)
    return label_key(rows.see(streams.labels[stream], metadata or {}, found).all())
