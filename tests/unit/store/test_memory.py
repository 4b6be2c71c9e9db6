from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.store.batch import METADATA, SCHEMA, Source, canonical
from atalaia.store.commit import stored_batch
from atalaia.store.memory import MemoryTable, StreamRange, ranges
from atalaia.store.streams import Streams

PAIRS = st.lists(st.tuples(st.integers(1, 4), st.integers(-(2**63), 2**63 - 1)), max_size=20)


def brute(pairs: list[tuple[int, int]]) -> dict[int, tuple[int, int, int]]:
    return {
        s: (len(found), min(found), max(found))
        for s in {s for s, _ in pairs}
        if (found := [ts for other, ts in pairs if other == s])
    }


def plain(found: dict[int, StreamRange]) -> dict[int, tuple[int, int, int]]:
    return {s: (r.rows, r.min_ts, r.max_ts) for s, r in found.items()}


def range_of(pairs: list[tuple[int, int]]) -> dict[int, StreamRange]:
    return ranges(np.array([s for s, _ in pairs], np.int32), np.array([t for _, t in pairs], np.int64))


@given(PAIRS)
def test_ranges_are_those_of_each_stream(pairs: list[tuple[int, int]]) -> None:
    assert plain(range_of(pairs)) == brute(pairs)


def table_of(labels: list[dict[str, str]]) -> pa.Table:
    count = len(labels)
    return pa.Table.from_arrays(
        [
            pa.array(range(count), pa.int64()),
            pa.array([canonical(one) for one in labels], pa.utf8()).dictionary_encode(),
            pa.array([f"line {i}" for i in range(count)], pa.utf8()),
            pa.nulls(count, METADATA),
        ],
        schema=SCHEMA,
    )


@pytest.mark.parametrize("empty", [table_of([]), table_of([{"a": "b"}]).slice(0, 0), SCHEMA.empty_table()])
def test_a_batch_without_entries_is_rows_without_entries(empty: pa.Table) -> None:
    assert len(stored_batch(empty, "fake", Streams(), 7)) == 0


def test_streams_are_numbered_per_tenant_and_stay() -> None:
    streams = Streams()
    streams.restore(41, "fake", '{"a":"b"}')
    table = pa.concat_tables([table_of([{"a": "c"}, {"a": "b"}]), table_of([{"a": "b"}, {"a": "c"}])])
    assert stored_batch(table, "fake", streams, 10).column("stream_id").to_pylist() == [42, 41, 41, 42]
    assert stored_batch(table, "other", streams, 10).column("stream_id").to_pylist() == [43, 44, 44, 43]
    assert stored_batch(table, "fake", streams, 10).column("seq").to_pylist() == [10, 11, 12, 13]
    assert [s.id for s in streams.of("fake")] == [41, 42]
    assert len(streams) == 4


def test_a_memory_table_keeps_the_last_end_of_each_source() -> None:
    memory, streams = MemoryTable(1), Streams()
    memory.add(stored_batch(table_of([{"a": "b"}] * 2), "fake", streams, 1), (Source("x", 0, 5), Source("y", 0, 9)))
    memory.add(stored_batch(table_of([{"a": "b"}]), "fake", streams, 3), (Source("x", 5, 8),))
    assert memory.sources == {"x": 8, "y": 9}
    assert memory.rows == 3
    assert plain(memory.streams) == {1: (3, 0, 1)}
