from __future__ import annotations

import time

import orjson
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.store.batch import (
    METADATA,
    SCHEMA,
    BatchError,
    Limits,
    Refused,
    Source,
    canonical,
    check_labels,
    decode,
    encode,
    keep_valid,
)

TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
NAME = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True)
LABELS = st.dictionaries(NAME, TEXT.filter(bool), min_size=1, max_size=4)
METADATA_VALUES = st.none() | st.dictionaries(TEXT, TEXT, max_size=3)
ENTRY = st.tuples(st.integers(-(2**63), 2**63 - 1), LABELS, TEXT, METADATA_VALUES)
POSITION = st.integers(0, 2**63 - 1)
SOURCE = st.builds(lambda key, one, two: Source(key, min(one, two), max(one, two)), TEXT, POSITION, POSITION)


def table_of(entries: list[tuple[int, dict[str, str], str, dict[str, str] | None]]) -> pa.Table:
    columns = [
        pa.array([e[0] for e in entries], pa.int64()),
        pa.array([canonical(e[1]) for e in entries], pa.utf8()).dictionary_encode(),
        pa.array([e[2] for e in entries], pa.utf8()),
        pa.array([None if e[3] is None else list(e[3].items()) for e in entries], METADATA),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def rows(table: pa.Table) -> list[tuple[int, str, str, list[tuple[str, str]] | None]]:
    return [(r["ts"], r["labels"], r["line"], r["metadata"]) for r in table.to_pylist()]


@given(st.lists(ENTRY, max_size=8), st.lists(SOURCE, max_size=3))
def test_what_is_encoded_is_decoded(entries: list, sources: list[Source]) -> None:
    table = table_of(entries)
    decoded, found = decode(encode(table, sources))
    assert rows(decoded) == rows(table)
    assert found == tuple(sources)
    assert decoded.schema == SCHEMA


def test_nul_newlines_and_null_metadata_survive() -> None:
    lines = ["", "\0", "a\0b\n\tc", "ção 🜁", "\r\n"]
    table = table_of(
        [(i, {"a": "\0"}, line, [None, {}, {"": ""}, {"k": "\0"}, None][i]) for i, line in enumerate(lines)]
    )
    decoded, _ = decode(encode(table))
    assert [r[2] for r in rows(decoded)] == lines
    assert [r[3] for r in rows(decoded)] == [None, [], [("", "")], [("k", "\0")], None]


@pytest.mark.parametrize("codec", [None, "lz4", "zstd"])
def test_a_batch_of_any_compression_is_decoded(codec: str | None) -> None:
    """Logs of earlier versions hold zstd."""
    table = table_of([(n, {"a": "b"}, "x" * 1000, {"k": "v"}) for n in range(100)])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_table(table)
    assert rows(decode(sink.getvalue().to_pybytes())[0]) == rows(table)


def test_the_metadata_column_may_be_absent() -> None:
    decoded, sources = decode(encode(table_of([(1, {"a": "b"}, "x", None)]).drop_columns("metadata")))
    assert rows(decoded) == [(1, '{"a":"b"}', "x", None)]
    assert sources == ()


def test_several_batches_with_different_dictionaries_are_one_table() -> None:
    tables = [table_of([(i, {"a": str(i)}, "x", None)]) for i in range(3)]
    decoded, _ = decode(encode(pa.concat_tables(tables)))
    assert [r[1] for r in rows(decoded)] == ['{"a":"0"}', '{"a":"1"}', '{"a":"2"}']


def _invalid_utf8() -> bytes:
    line = pa.Array.from_buffers(pa.utf8(), 1, [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe")])
    return encode(table_of([(1, {"a": "b"}, "x", None)]).set_column(2, SCHEMA.field("line"), line))


def _null_in_dictionary() -> bytes:
    labels = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), pa.array([None], pa.utf8()))
    return encode(table_of([(1, {"a": "b"}, "x", None)]).set_column(1, SCHEMA.field("labels"), labels))


def _null_line() -> bytes:
    return encode(table_of([(1, {"a": "b"}, "x", None)]).set_column(2, SCHEMA.field("line"), pa.nulls(1, pa.utf8())))


def _with_sources(listed: object) -> bytes:
    table = table_of([(1, {"a": "b"}, "x", None)])
    return encode(table.replace_schema_metadata({b"atalaia.sources": orjson.dumps(listed)}))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"not arrow at all", id="not arrow"),
        pytest.param(encode(table_of([(1, {"a": "b"}, "x", None)]))[:-40], id="cut short"),
        pytest.param(encode(pa.table({"ts": [1]})), id="columns missing"),
        pytest.param(encode(pa.table({"ts": ["x"], "labels": ["{}"], "line": ["x"]})), id="wrong type"),
        pytest.param(_invalid_utf8(), id="line is not UTF-8"),
        pytest.param(_null_line(), id="line is null"),
        pytest.param(_null_in_dictionary(), id="labels are null in the dictionary"),
        pytest.param(_with_sources([["a", 0]]), id="source without end"),
        pytest.param(_with_sources([["a", "x", 1]]), id="source that is no number"),
        pytest.param(_with_sources([["a", 0, 2**64 - 1]]), id="source beyond int64"),
        pytest.param(_with_sources([["a", 0, 1e30]]), id="source beyond any integer"),
        pytest.param(_with_sources([["a", 5, 4]]), id="source that ends before it starts"),
        pytest.param(_with_sources([["a", -5, 4]]), id="source that starts before its file"),
        pytest.param(_with_sources({"a": 1}), id="sources that are no list"),
    ],
)
def test_what_is_no_batch_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(BatchError) as caught:
        decode(body)
    assert caught.value.remedy


@given(LABELS)
def test_canonical_labels_pass_their_check(labels: dict[str, str]) -> None:
    assert check_labels(canonical(labels), Limits()) is None
    assert orjson.loads(canonical(labels)) == labels


def test_empty_values_are_no_labels() -> None:
    assert canonical({"b": "", "a": "x"}) == '{"a":"x"}'


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{}", "at least one label"),
        ("nonsense", "not a JSON object"),
        ('["a"]', "not a JSON object"),
        ('{"a":1}', "not a JSON object"),
        ('{"a-b":"x"}', "'a-b'"),
        ('{"1a":"x"}', "'1a'"),
        ('{"a\\n":"x"}', "label name"),
        ('{"b":"x","a":"y"}', "sorted"),
        ('{"a": "y"}', "sorted"),
        ('{"a":"y","a":"y"}', "sorted"),
        ('{"a":"y","b":""}', "sorted"),
        (canonical({f"l{i}": "x" for i in range(31)}), "31 labels; the limit is 30"),
        (canonical({"a" * 1025: "x"}), "at most 1024"),
        (canonical({"a": "x" * 2049}), "2049 bytes long; the limit is 2048"),
        (canonical({"a": "ç" * 1025}), "label a is 2050 bytes long; the limit is 2048"),
    ],
)
def test_bad_label_sets_are_named(text: str, complaint: str) -> None:
    assert complaint in (check_labels(text, Limits()) or "nothing")


SMALL = Limits(line=5, labels=2, label_value=3, metadata=6, metadata_keys=2)
CANDIDATE = st.tuples(
    st.sampled_from([-1, 0, 1, 10**18, 2**62]),
    st.sampled_from(
        [{"a": "b"}, {"a": "ç"}, {"a": "çç"}, {"a": "1", "b": "2", "c": "3"}, {}, {"a b": "x"}, {"ç": "x"}]
    ),
    st.sampled_from(["", "12345", "123456", "ççç", "çç"]),
    st.none() | st.dictionaries(st.sampled_from("abç"), st.sampled_from(["", "1", "ç", "12345", "123456"]), max_size=3),
)


def _good(entry: tuple[int, dict[str, str], str, dict[str, str] | None]) -> bool:
    ts, labels, line, metadata = entry
    size = sum(len((key + value).encode()) for key, value in (metadata or {}).items())
    good_metadata = len(metadata or {}) <= 2 and size <= 6
    return 0 <= ts <= 10**18 and labels in ({"a": "b"}, {"a": "ç"}) and len(line.encode()) <= 5 and good_metadata


@given(st.lists(CANDIDATE, max_size=8), st.integers(0, 8))
def test_limits_refuse_exactly_the_bad_entries(entries: list, split: int) -> None:
    # Two chunks with dictionaries of their own, as a batch from several files has.
    table = pa.concat_tables([table_of(entries[:split]), table_of(entries[split:])])
    kept, refused = keep_valid(table, SMALL)
    good = [e for e in entries if _good(e)]
    assert [(r[0], r[2]) for r in rows(kept)] == [(e[0], e[2]) for e in good]
    assert (refused.count if refused else 0) == len(entries) - len(good)
    if refused:
        first = next(i for i, e in enumerate(entries) if not _good(e))
        assert refused.message.startswith(f"entry {first}")


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ((7, {"a": "b"}, "123456", None), "entry 1 at 7: its line is 6 bytes long; the limit is 5"),
        ((-1, {"a": "b"}, "x", None), "entry 1 at -1: its time is not between 1970 and 86400 s ahead of"),
        ((7, {"a": "çç"}, "x", None), "entry 1 at 7: label a is 4 bytes long; the limit is 3"),
        ((7, {}, "x", None), "entry 1 at 7: a stream needs at least one label"),
        (
            (7, {"a": "b"}, "x", {"k": "çç", "l": "1"}),
            "entry 1 at 7: its metadata has 7 bytes of keys and values; the limit is 6",
        ),
        ((7, {"a": "b"}, "x", dict.fromkeys("abc", "")), "entry 1 at 7: its metadata has 3 keys; the limit is 2"),
    ],
)
def test_the_first_refused_entry_is_named_with_its_limit(entry: tuple, message: str) -> None:
    _, refused = keep_valid(table_of([(1, {"a": "b"}, "x", None), entry, entry]), SMALL)
    assert refused is not None
    assert refused.count == 2
    assert refused.message.startswith(message)


def test_metadata_is_measured_in_a_slice_as_in_a_whole() -> None:
    metadata = [{"k": "123456"}, None, {"k": "12345"}, {}, {"k": "123456"}, {"a": "", "b": "1234"}]
    table = table_of([(n, {"a": "b"}, str(n), pairs) for n, pairs in enumerate(metadata)])
    # Arrow keeps an offset in a slice of one chunk; put together anew, it does not.
    sliced = table.slice(1, 4)
    for some in (sliced, pa.concat_tables([sliced.slice(0, 1), sliced.slice(1)])):
        kept, refused = keep_valid(some, SMALL)
        assert [r[2] for r in rows(kept)] == ["1", "2", "3"]
        message = "entry 3 at 4: its metadata has 7 bytes of keys and values; the limit is 6"
        assert refused == Refused(1, message, {"structured_metadata_too_large": 1})


def test_a_day_ahead_is_taken_and_more_is_not() -> None:
    now, day = time.time_ns(), 86_400 * 10**9
    entries = [(now + day - 60 * 10**9, {"a": "b"}, "near", None), (now + day + 60 * 10**9, {"a": "b"}, "far", None)]
    kept, refused = keep_valid(table_of(entries), Limits())
    assert [r[2] for r in rows(kept)] == ["near"]
    assert refused is not None
    assert refused.count == 1


def test_refused_entries_are_counted_by_the_first_limit_that_they_break() -> None:
    long, late = "x" * (SMALL.line + 1), 2**62
    entries = [(1, {"a": "b"}, "x", None), (1, {"a": "b"}, long, None), (late, {"a": "b"}, long, None)]
    entries += [(late, {"a": "b"}, "x", None), (late, {}, long, None)]
    _, refused = keep_valid(table_of(entries), SMALL)
    assert refused is not None
    assert refused.count == 4
    assert refused.reasons == {"invalid_labels": 1, "line_too_long": 2, "time_out_of_range": 1}
