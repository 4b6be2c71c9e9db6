from __future__ import annotations

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from atalaia.collector.entries import Entries, label_sets, metadata_map
from atalaia.collector.outputs.lokijson import loki_json
from atalaia.store.batch import SCHEMA, canonical

VALUE = st.none() | st.sampled_from(["", "x", "y", "é", "\0"])


@st.composite
def columns(draw: st.DrawFn) -> tuple[int, dict[str, list[str | None]]]:
    count = draw(st.integers(0, 6))
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=4))
    return count, {name: draw(st.lists(VALUE, min_size=count, max_size=count)) for name in names}


@given(columns(), st.dictionaries(st.sampled_from("xyz"), st.sampled_from(["", "1"]), max_size=2))
def test_label_sets_are_those_of_each_row(made: tuple[int, dict], constant: dict[str, str]) -> None:
    count, varying = made
    arrays = {name: pa.array(values, pa.utf8()) for name, values in varying.items()}
    found = label_sets({**constant, **arrays}, count)
    expected = [
        canonical({**constant, **{n: v[row] for n, v in varying.items() if v[row] is not None}}) for row in range(count)
    ]
    assert found.to_pylist() == expected


def test_many_labels_with_many_values_are_not_confused() -> None:
    # 17 labels of 15 values and none each: 16^17 combinations, more than 64 bits tell apart.
    values = [f"v{i}" for i in range(15)]
    labels = {f"l{n:02}": pa.array([*values, values[n % 15], "v3"], pa.utf8()) for n in range(17)}
    labels["l00"] = pa.array([*values, "v1", "v2"], pa.utf8())
    labels = {n: (a if n == "l00" else pa.array([*values, "v5", "v5"], pa.utf8())) for n, a in labels.items()}
    found = label_sets(labels, 17).to_pylist()
    assert found == [canonical({n: a[row].as_py() for n, a in labels.items()}) for row in range(17)]
    assert len(set(found)) == 17


@given(columns())
def test_a_metadata_map_has_the_values_of_each_row(made: tuple[int, dict]) -> None:
    count, values = made
    found = metadata_map({name: pa.array(column, pa.utf8()) for name, column in values.items()}, count)
    found.validate(full=True)
    if not values:
        assert found.null_count == count
        return
    expected = [[(n, c[row]) for n, c in values.items() if c[row] is not None] for row in range(count)]
    assert found.to_pylist() == expected


def test_numbers_become_texts_in_metadata() -> None:
    assert metadata_map({"pid": pa.array([1, None], pa.int64())}, 2).to_pylist() == [[("pid", "1")], []]


def test_a_batch_has_the_stores_schema_with_external_labels_last() -> None:
    entries = Entries(
        pa.array(["a", "b"]), np.array([1, 2]), {"job": "j", "level": pa.array([None, "x"], pa.utf8()), "zone": "old"}
    )
    batch = entries.record_batch({"zone": "eu"})
    assert batch.schema == SCHEMA
    assert [r["labels"] for r in batch.to_pylist()] == [
        '{"job":"j","zone":"eu"}',
        '{"job":"j","level":"x","zone":"eu"}',
    ]


def test_extracted_values_that_are_missing_keep_what_was_there() -> None:
    entries = Entries(pa.array(["a", "b"]), np.array([1, 2]), {})
    entries = entries.with_extracted({"x": pa.array(["1", "2"])})
    entries = entries.with_extracted({"x": pa.array([None, "3"]), "y": pa.array([None, "4"])})
    assert entries.source("x").to_pylist() == ["1", "3"]
    assert entries.source("y").to_pylist() == [None, "4"]
    assert entries.source("z").to_pylist() == [None, None]
    assert entries.source(None).to_pylist() == ["a", "b"]


def test_lokis_json_has_a_stream_for_each_label_set() -> None:
    import json

    entries = Entries(pa.array(["a", "b\0", "c"]), np.array([1, 2, 3]), {"l": pa.array(["x", "y", "x"])})
    assert json.loads(loki_json(pa.Table.from_batches([entries.record_batch()]))) == {
        "streams": [
            {"stream": {"l": "x"}, "values": [["1", "a"], ["3", "c"]]},
            {"stream": {"l": "y"}, "values": [["2", "b\0"]]},
        ]
    }
