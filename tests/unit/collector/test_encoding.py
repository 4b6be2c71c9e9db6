"""The bodies of pushes say what the batch says: read back by the API's decoders, by protobuf's own, by json."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cache

import cramjam
import numpy as np
import pyarrow as pa
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.message import Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from atalaia.collector.outputs.columns import packed, varint_sizes
from atalaia.collector.outputs.loki import parts
from atalaia.collector.outputs.lokijson import escaped, loki_json
from atalaia.collector.outputs.protobuf import encode_push, selector
from atalaia.store.batch import METADATA, SCHEMA, canonical
from atalaia.wire.labels import parse_label_text
from atalaia.wire.protobuf import push_file
from atalaia.wire.push import read_push

Pairs = tuple[tuple[str, str], ...]
Row = tuple[int, str, str, Pairs]  # ts, canonical labels, line, metadata

TEXT = st.text(st.characters(codec="utf-8"), max_size=20)
NAME = st.from_regex(r"[a-z_][a-z0-9_]{0,5}", fullmatch=True)
LABELS = st.dictionaries(NAME, TEXT.filter(bool), min_size=1, max_size=3).map(canonical)
PAIRS = st.dictionaries(NAME, TEXT, max_size=3).map(lambda found: tuple(found.items()))
ROW = st.tuples(st.integers(0, 2**62), LABELS, TEXT, PAIRS)
ROWS = st.lists(ROW, max_size=20)
LONG: Row = (2**62, canonical({"a": "b"}), "x" * 70_000, (("k", "v" * 200), ("empty", "")))


def table_of(rows: Sequence[Row], nulls: bool = True) -> pa.Table:
    """The rows as two batches, which have one dictionary, as the collector's have."""

    def batch(some: Sequence[Row]) -> pa.RecordBatch:
        columns = [
            pa.array([row[0] for row in some], pa.int64()),
            pa.array([row[1] for row in some], pa.utf8()).dictionary_encode(),
            pa.array([row[2] for row in some], pa.utf8()),
            pa.array([list(row[3]) if row[3] or not nulls else None for row in some], METADATA),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)

    middle = len(rows) // 2
    return pa.Table.from_batches([batch(rows[:middle]), batch(rows[middle:])]).unify_dictionaries()


def by_stream(rows: Sequence[Row]) -> dict[str, list[tuple[int, str, Pairs]]]:
    """Each stream's entries in their order."""
    found = defaultdict(list)
    for ts, labels, line, pairs in rows:
        found[labels].append((ts, line, pairs))
    return dict(found)


def rows_of(table: pa.Table) -> list[Row]:
    return [(row["ts"], row["labels"], row["line"], tuple(row["metadata"] or ())) for row in table.to_pylist()]


@cache
def request_class() -> type[Message]:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb))
    pool.Add(push_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("logproto.PushRequest"))


def decoded(body: bytes) -> Message:
    """The push as protobuf's own classes read it."""
    request = request_class()()
    request.ParseFromString(bytes(cramjam.snappy.decompress_raw(body)))
    return request


@settings(max_examples=50)
@given(ROWS)
@example([])
@example([LONG, (0, canonical({"a": "b"}), "", ()), LONG])
def test_protobuf_is_what_others_read(rows: list[Row]) -> None:
    body = encode_push(table_of(rows))
    found = defaultdict(list)
    for stream in decoded(body).streams:  # type: ignore[attr-defined]  # made at run time
        labels = canonical(parse_label_text(stream.labels))
        assert labels not in found, "a stream stands there once"
        for entry in stream.entries:
            pairs = tuple((pair.name, pair.value) for pair in entry.structuredMetadata)
            found[labels].append((entry.timestamp.seconds * 10**9 + entry.timestamp.nanos, entry.line, pairs))
    assert dict(found) == by_stream(rows)
    if rows:  # what is empty is not sent, and not taken either
        assert by_stream(rows_of(read_push(body, "application/x-protobuf", "").table)) == by_stream(rows)


@settings(max_examples=50)
@given(ROWS)
@example([])
@example([LONG, (0, canonical({"a": "b"}), "", ()), LONG])
def test_json_is_what_others_read(rows: list[Row]) -> None:
    body = loki_json(table_of(rows))
    found = {
        canonical(stream["stream"]): [
            (int(value[0]), value[1], tuple(value[2].items()) if len(value) > 2 else ()) for value in stream["values"]
        ]
        for stream in json.loads(body)["streams"]
    }
    assert found == by_stream(rows)
    if rows:
        assert by_stream(rows_of(read_push(body, "application/json", "").table)) == by_stream(rows)


@settings(max_examples=50)
@given(ROWS.filter(len), st.data())
def test_a_slice_is_encoded_alone(rows: list[Row], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows) - 1))
    end = data.draw(st.integers(start + 1, len(rows)))
    part = table_of(rows, nulls=False).slice(start, end - start)
    for body, kind in ((encode_push(part), "application/x-protobuf"), (loki_json(part), "application/json")):
        assert by_stream(rows_of(read_push(body, kind, "").table)) == by_stream(rows[start:end])


@given(st.dictionaries(NAME, TEXT.filter(bool), max_size=3))
def test_a_selector_is_read_back(labels: dict[str, str]) -> None:
    if labels:
        assert parse_label_text(selector(canonical(labels))) == labels


@given(st.lists(TEXT))
@example(["".join(map(chr, range(256))), "\\n", '\\"', "\u2028"])
def test_escaped_texts_are_jsons(texts: list[str]) -> None:
    found = escaped(pa.array(texts, pa.utf8())).to_pylist()
    assert [json.loads(f'"{text}"') for text in found] == texts


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1))
@example([0, 127, 128, 2**14 - 1, 2**14, 2**63, 2**64 - 1])
def test_varints(values: list[int]) -> None:
    def varint(value: int) -> bytes:
        size = max(1, math.ceil(value.bit_length() / 7))
        low = [(value >> (7 * place)) & 0x7F for place in range(size)]
        return bytes([byte | 0x80 for byte in low[:-1]] + low[-1:])

    array = np.array(values, np.uint64)
    assert varint_sizes(array).tolist() == [len(varint(value)) for value in values]
    expected = [b"\x0a" + varint(value) + b"\x10" + varint(value) for value in values]
    assert packed([0x0A, array, 0x10, array], len(values)).to_pylist() == expected


@settings(max_examples=50)
@given(ROWS.filter(len), st.integers(1, 200))
def test_parts_are_whole_entries_and_no_larger_than_they_may_be(rows: list[Row], most: int) -> None:
    table = table_of(rows)

    def size(row: Row) -> int:
        return len(row[2].encode()) + sum(len(text.encode()) for pair in row[3] for text in pair)

    ranges = parts(table, most)
    assert [start for start, _ in ranges] == [0, *(end for _, end in ranges[:-1])]
    assert ranges[-1][1] == len(rows)
    for start, end in ranges:
        assert end == start + 1 or sum(map(size, rows[start:end])) <= most
        # As many as there is room for.
        assert end == len(rows) or sum(map(size, rows[start : end + 1])) > most
