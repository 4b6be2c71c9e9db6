"""Structured metadata in compacted segments: frequent keys in columns of their own, and the same answers."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tests.integration.logs_support import opened, wait_for

from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery
from atalaia.query.engine import Engine
from atalaia.query.execute import Executor
from atalaia.store.batch import SCHEMA
from atalaia.store.options import Options

COUNTS = (
    'sum by (user) (count_over_time({app=~".+"} | pid="7" [10s]))',
    'count_over_time({app="a1"} | rare=~"x.+" [10s])',
    'sum by (pid, app) (count_over_time({app=~"a1|a2"} | user="a" [10s]))',
    'sum(count_over_time({app=~".+"} | pid="" [10s]))',
    'sum(count_over_time({app=~".+"} | pid > 40 [10s]))',
)


def table(rng: random.Random) -> pa.Table:
    metadata = []
    for number in range(5000):
        pairs = (
            [("pid", str(rng.randint(1, 50))), ("user", rng.choice("abc")), ("odd key\0", "v")] if number % 2 else []
        )
        metadata.append([*pairs, ("rare", f"x{number}")] if number % 500 == 0 else pairs or None)
    return pa.Table.from_arrays(
        [
            pa.array([10**9 + number // 3 for number in range(5000)]),
            pa.array([f'{{"app":"a{number % 3}"}}' for number in range(5000)]).dictionary_encode(),
            pa.array([f"line {number} of it" for number in range(5000)]),
            pa.array(metadata, SCHEMA.field("metadata").type),
        ],
        schema=SCHEMA,
    )


def answers(executor: Executor) -> list[list[str]]:
    found = []
    for text in COUNTS:
        matrix = executor.metric(parse(text), ("fake",), 11 * 10**9, 10**9, 1)  # type: ignore[arg-type]
        found.append(sorted(f"{labels} {row[0]}" for labels, row in zip(matrix.labels, matrix.values, strict=True)))
    query = parse('{app=~".+"} | pid!=""')
    assert isinstance(query, LogQuery)
    entries = executor.logs(query, ("fake",), 0, 2**62, 5000, True)
    return [*found, [f"{entry.ts} {entry.line} {sorted(entry.all().items())}" for entry in entries]]


def test_metadata_is_the_same_from_memory_and_from_all_levels(tmp_path: Path, rng: random.Random) -> None:
    engine = Engine()
    with opened(tmp_path, Options(idle_seconds=0.02)) as store:
        executor = Executor(store, engine)
        assert store.append(table(rng), "fake").result(20).rows == 5000
        from_memory = answers(executor)
        assert all(from_memory)
        assert len(from_memory[-1]) == 2500
        store.flush()
        assert answers(executor) == from_memory
        wait_for(lambda: store.settled)
        assert [found.keys for found in store._shelf.segments] == [("pid", "user")]
        assert answers(executor) == from_memory
    engine.close()
    rows = pq.read_table(next((tmp_path / "segments").glob("*.parquet"))).sort_by("seq").to_pylist()
    assert [row["meta.pid"] is not None for row in rows] == [bool(number % 2) for number in range(5000)]
    assert dict(rows[1]["metadata"]) == {"odd key\0": "v"}
    assert dict(rows[500]["metadata"]) == {"rare": "x500"}
    assert rows[2]["metadata"] is None
