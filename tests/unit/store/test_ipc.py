from __future__ import annotations

import io
import struct
from collections.abc import Callable

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.store.batch import METADATA, MOST, SCHEMA, BatchError, decode, encode
from atalaia.store.ipc import unpacked_size


def stream(table: pa.Table, compression: str | None = None, **options: object) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(
        sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression, **options)
    ) as writer:
        writer.write_table(table)
    return sink.getvalue()


def entries(count: int, **columns: pa.Array) -> pa.Table:
    table = {
        "ts": pa.array(range(count), pa.int64()),
        "labels": pa.array(['{"a":"b"}'] * count, pa.utf8()).dictionary_encode(),
        "line": pa.array(["x" * 100] * count, pa.utf8()),
        "metadata": pa.array([[("pid", str(n))] for n in range(count)], METADATA),
    }
    return pa.table(table | columns)


def declare(body: bytes, before: int, after: int) -> bytes:
    """The stream with the one buffer that unpacks to `before` bytes saying that it unpacks to `after`."""
    assert body.count(struct.pack("<q", before) + b"\x28\xb5\x2f\xfd") == 1
    return body.replace(struct.pack("<q", before) + b"\x28\xb5\x2f\xfd", struct.pack("<q", after) + b"\x28\xb5\x2f\xfd")


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@given(rows=st.integers(1, 300), chunk=st.integers(1, 100), labels=st.integers(1, 20))
@settings(max_examples=30, deadline=None)
def test_a_stream_counts_as_the_batches_that_it_unpacks_to(
    compression: str | None, rows: int, chunk: int, labels: int
) -> None:
    names = pa.array([f'{{"a":"{n % labels}"}}' for n in range(rows)], pa.utf8()).dictionary_encode()
    whole = entries(rows, labels=names)
    body = stream(
        pa.concat_tables([whole.slice(at, chunk).combine_chunks() for at in range(0, rows, chunk)]), compression
    )
    with pa.ipc.open_stream(body) as reader:
        sizes = [batch.get_total_buffer_size() for batch in reader]
    assert len(sizes) == -(-rows // chunk)
    # The dictionary counts when it is declared, and with each batch that has it.
    assert unpacked_size(body) == sum(sizes) + names.dictionary.get_total_buffer_size()


def test_what_is_encoded_is_counted_exactly_to_the_padding() -> None:
    table = entries(50_000)
    assert 0 <= unpacked_size(encode(table)) - table.nbytes < 200


def test_a_delta_counts_with_all_that_it_adds_to() -> None:
    first = pa.array(["x" * 100_000])
    sink = io.BytesIO()
    kind = pa.schema([("labels", pa.dictionary(pa.int32(), pa.utf8()))])
    with pa.ipc.new_stream(sink, kind, options=pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True)) as writer:
        for n in range(1, 6):
            dictionary = pa.concat_arrays([first, *(pa.array([str(m)]) for m in range(1, n))])
            column = pa.DictionaryArray.from_arrays(pa.array([n - 1], pa.int32()), dictionary)
            writer.write_batch(pa.record_batch([column], schema=kind))
    assert len(sink.getvalue()) < 200_000
    assert 1_000_000 <= unpacked_size(sink.getvalue()) < 1_010_000


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
@pytest.mark.parametrize(
    "table",
    [
        entries(1, line=pa.array(["\0" * (16 << 20)])),
        pa.concat_tables([entries(1, line=pa.array(["\0" * (1 << 20)]))] * 16),
        entries(1, labels=pa.array(["\0" * (16 << 20)]).dictionary_encode()),
    ],
    ids=["one line", "many batches", "a dictionary"],
)
def test_a_bomb_is_refused(table: pa.Table, compression: str) -> None:
    body = stream(table, compression)
    assert len(body) < 1 << 20
    with pytest.raises(BatchError, match=r"unpacks to \d+ bytes; the limit is 4194304\n  send smaller batches"):
        decode(body, most=4 << 20)


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (2**62, rf"unpacks to 4611686\d+ bytes; the limit is {MOST}"),
        (-2, "negative length"),
        (-(2**63), "negative length"),
        (7, "not a batch"),
    ],
)
def test_a_length_that_is_no_length(declared: int, message: str) -> None:
    body = stream(entries(100), "zstd")
    with pytest.raises(BatchError, match=message):
        decode(declare(body, 100 * 100, declared))


def test_metadata_before_v5_is_refused() -> None:
    body = stream(entries(1), metadata_version=pa.ipc.MetadataVersion.V4)
    with pytest.raises(BatchError, match="before V5"):
        decode(body)


def _repeated(text: str, count: int) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array([text]))


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("ts", pa.nulls(3)),
        ("ts", pa.RunEndEncodedArray.from_arrays(pa.array([3], pa.int32()), pa.array([1], pa.int64()))),
        ("line", _repeated("x", 3)),
        ("line", pa.array(["x"] * 3, pa.string_view())),
        ("labels", pa.array(['{"a":"b"}'] * 3, pa.string_view())),
        ("metadata", pa.array([[("k", "v")]] * 3, pa.map_(pa.utf8(), pa.string_view()))),
    ],
    ids=lambda value: value if isinstance(value, str) else str(value.type),
)
def test_types_that_a_cast_makes_many_times_larger_are_refused(name: str, column: pa.Array) -> None:
    with pytest.raises(BatchError, match=f"column {name} is"):
        decode(stream(entries(3, **{name: column})))


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.set_column(2, "line", t.column("line").cast(pa.large_utf8())),
        lambda t: t.set_column(1, "labels", t.column("labels").cast(pa.utf8())),
        lambda t: t.set_column(1, "labels", t.column("labels").cast(pa.dictionary(pa.int8(), pa.utf8()))),
        lambda t: t.append_column("more", pa.nulls(len(t))),
    ],
    ids=["large text", "plain labels", "short indices", "another column"],
)
def test_types_of_the_same_size_are_read(change: Callable[[pa.Table], pa.Table]) -> None:
    table = entries(3)
    decoded, _ = decode(stream(change(table)))
    assert decoded.schema == SCHEMA
    assert decoded.to_pylist() == table.to_pylist()


def test_what_was_taken_once_is_read_whatever_its_size() -> None:
    body = stream(entries(1), metadata_version=pa.ipc.MetadataVersion.V4)
    decoded, _ = decode(body, most=None)
    assert len(decoded) == 1


GOOD = [stream(entries(20), compression) for compression in (None, "zstd", "lz4")]


@given(st.binary(max_size=300))
@settings(deadline=None)
def test_random_bytes_are_no_batch(body: bytes) -> None:
    with pytest.raises(BatchError):
        decode(body)
    with pytest.raises(BatchError):
        decode(b"\xff\xff\xff\xff" + body)


@given(
    st.sampled_from(GOOD),
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from([1, 2, 4, 8]), st.integers(0, 2**64 - 1)),
        min_size=1,
        max_size=4,
    ),
)
@settings(max_examples=600, deadline=None)
def test_a_changed_stream_is_read_or_refused(body: bytes, changes: list[tuple[float, int, int]]) -> None:
    changed = bytearray(body)
    for place, width, value in changes:
        at = int(place * (len(body) - width))
        changed[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    try:
        decoded, _ = decode(bytes(changed))
    except BatchError:
        return
    assert decoded.nbytes <= MOST
