"""Answers LogQL from a store: snapshot -> relation -> SQL -> streams or series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from atalaia.api.engine import Engine
from atalaia.environment.errors import InputError
from atalaia.logql import evaluate, extract
from atalaia.logql.matrix import Labels, Matrix, label_key
from atalaia.logql.plan import NotBuilt, Pipeline, Streams, compile_pipeline
from atalaia.logql.select import selector_test
from atalaia.logql.tree import Grouping, Json, Logfmt, LogQuery, Metric, RangeAggregation, Selector
from atalaia.logql.window import Grid, slide
from atalaia.store.relation import chosen, relation
from atalaia.store.store import Snapshot, Store

MAX_SERIES = 20_000


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of an answer: its stream's labels, structured metadata and what parsers found, apart."""

    ts: int
    seq: int
    line: str
    stream: Mapping[str, str]
    metadata: Mapping[str, str]
    parsed: Mapping[str, str]

    def labels(self) -> dict[str, str]:
        """All labels together, in Loki's precedence."""
        return {**self.parsed, **self.metadata, **self.stream}


class Executor:
    """Queries over one store."""

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine

    def _streams(self, query: LogQuery, tenant: str, snapshot: Snapshot) -> Streams:
        test = selector_test(query.selector)
        return Streams({s.id: s.labels for s in snapshot.streams.of(tenant) if test(s.labels)})

    def logs(self, query: LogQuery, tenant: str, start: int, end: int, limit: int, backward: bool) -> list[Row]:
        """The first `limit` entries of [start, end) ns in the given direction; equal times in order of arrival."""
        with self._store.snapshot() as snapshot:
            streams = self._streams(query, tenant, snapshot)
            pipeline = compile_pipeline(query, streams)
            parts = chosen(snapshot.parts, streams.labels.keys(), start, end)
            parts.sort(key=lambda p: p.max_ts if backward else -p.min_ts, reverse=True)
            found: list[tuple[int, int, int, str, list[tuple[str, str]] | dict[str, str] | None]] = []
            at, width = 0, 1
            while at < len(parts):
                # Parts come in the order of the answer; one that begins behind the last wanted entry cannot add to it.
                if len(found) >= limit:
                    edge = found[limit - 1][0]
                    if (parts[at].max_ts < edge) if backward else (parts[at].min_ts > edge):
                        break
                some = parts[at : at + width]
                at, width = at + width, width * 2
                order = "DESC" if backward else "ASC"
                with self._engine.cursor() as connection:
                    source = relation(connection, some, streams.labels.keys(), start, end)
                    where = _where(pipeline)
                    columns = f"SELECT ts, seq, stream_id, line, metadata FROM ({source}){where}"
                    sql = f"{columns} ORDER BY ts {order}, seq {order} LIMIT {limit:d}"
                    found += connection.execute(sql).fetchall()
                found.sort(key=lambda row: (row[0], row[1]), reverse=backward)
                del found[limit:]
            return [self._row(query, streams, row) for row in found]

    @staticmethod
    def _row(query: LogQuery, streams: Streams, row: tuple[int, int, int, str, object]) -> Row:
        ts, seq, stream, line, metadata = row
        own = streams.labels[stream]
        kept = dict(metadata) if isinstance(metadata, dict) else {}
        return Row(ts, seq, line, own, kept, parsed_labels(query, line, {**kept, **own}))

    def series(self, tenant: str, selectors: Sequence[Selector], start: int, end: int) -> list[dict[str, str]]:
        """The label sets of the streams with entries in [start, end] ns that any selector selects; all without one."""
        tests = [selector_test(selector) for selector in selectors]
        with self._store.snapshot() as snapshot:
            seen: set[int] = set()
            for part in snapshot.parts:
                seen |= {i for i, held in part.streams.items() if held.max_ts >= start and held.min_ts <= end}
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
        if grouping is None:
            keys = ["stream_id", "metadata", *pipeline.parsers, *pipeline.explicit.values()]
        elif all(_only_stream(pipeline, name) for name in grouping.labels):
            keys = ["stream_id"]
        else:
            keys = [pipeline.label(name) for name in grouping.labels]
        sample = "count(*)" if tree.op in ("count_over_time", "rate") else "sum(octet_length(encode(line)))"
        named = "".join(f"{sql} AS k{i}, " for i, sql in enumerate(keys))
        with self._engine.cursor() as connection:
            source = relation(connection, parts, streams.labels.keys(), first, last)
            sums = f"{grid.bucket_sql()} AS bucket, {sample}::DOUBLE AS v"
            sql = f"SELECT {named}{sums} FROM ({source}){_where(pipeline)} GROUP BY ALL"
            answer = connection.execute(sql).fetchnumpy() if keys == ["stream_id"] else None
            rows = connection.execute(sql).fetchall() if answer is None else []
        if answer is not None:
            labels, series = _stream_series(np.asarray(answer["k0"]), streams, grouping)
            buckets, values = np.asarray(answer["bucket"], np.int64), np.asarray(answer["v"])
        else:
            labels, series = _series(rows, streams, pipeline, grouping)
            buckets = np.array([row[-2] for row in rows], np.int64)
            values = np.array([row[-1] for row in rows], float)
        if len(labels) > MAX_SERIES:
            raise InputError(
                f"the query has {len(labels)} series; at most {MAX_SERIES} are answered",
                "group by fewer labels: sum by (…) (…)",
            )
        matrix = slide(grid, labels, series, buckets, values)
        scale = grid.range / 1e9 if tree.op in ("rate", "bytes_rate") else 1.0
        return Matrix(matrix.labels, matrix.values / scale, matrix.present)


def _where(pipeline: Pipeline) -> str:
    return f" WHERE {' AND '.join(pipeline.conditions)}" if pipeline.conditions else ""


def _only_stream(pipeline: Pipeline, name: str) -> bool:
    """Whether the label can be told from the stream alone."""
    return pipeline.on_every_stream(name)


def _numbered(keys: list[Labels]) -> tuple[list[Labels], np.ndarray]:
    numbers: dict[Labels, int] = {}
    series = np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)
    return list(numbers), series


def _stream_series(ids: np.ndarray, streams: Streams, grouping: Grouping | None) -> tuple[list[Labels], np.ndarray]:
    distinct, inverse = np.unique(ids, return_inverse=True)
    names = grouping.labels if grouping else ()
    labels, numbers = _numbered([label_key({n: streams.labels[int(i)][n] for n in names}) for i in distinct])
    return labels, numbers[inverse] if len(numbers) else np.zeros(0, np.int64)


def _series(
    rows: list[tuple[object, ...]],
    streams: Streams,
    pipeline: Pipeline,
    grouping: Grouping | None,
) -> tuple[list[Labels], np.ndarray]:
    keys = []
    for row in rows:
        if grouping is not None:
            keys.append(
                label_key(
                    {
                        name: str(value)
                        for name, value in zip(grouping.labels, row, strict=False)
                        if value not in (None, "")
                    }
                )
            )
            continue
        stream, metadata, *parsed = row[:-2]
        labels: dict[str, str] = dict(streams.labels[int(str(stream))])
        labels = {**(metadata if isinstance(metadata, dict) else {}), **labels}
        found: dict[str, str] = {}
        for value in parsed[: len(pipeline.parsers)]:
            found |= value if isinstance(value, dict) else {}
        found |= {
            name: str(value)
            for name, value in zip(pipeline.explicit, parsed[len(pipeline.parsers) :], strict=True)
            if value is not None
        }
        keys.append(label_key(_added(labels, found)))
    return _numbered(keys)


def _added(labels: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """Labels with what parsers found; a name that is taken gets the suffix _extracted."""
    return {
        **{(f"{name}_extracted" if name in labels else name): value for name, value in found.items()},
        **labels,
    }


def parsed_labels(query: LogQuery, line: str, labels: Mapping[str, str]) -> dict[str, str]:
    """What the query's parsers find in one line, named beside the labels that the entry has."""
    found: dict[str, str] = {}
    for stage in query.stages:
        match stage:
            case Json(expressions=()):
                found |= extract.json_labels(line)
            case Json():
                found |= {name: extract.json_value(line, path) for name, path in stage.expressions}
            case Logfmt(expressions=()):
                found |= extract.logfmt_labels(line, stage.strict, stage.keep_empty)
            case Logfmt():
                whole = extract.logfmt_labels(line, stage.strict, stage.keep_empty)
                found |= {name: whole[key] for name, key in stage.expressions if key in whole}
            case _:
                pass
    both = _added(labels, found)
    return {name: value for name, value in both.items() if name not in labels}
