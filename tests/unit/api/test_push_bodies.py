"""Bodies of pushes: what is read, and what is refused with which words."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import cramjam
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.store.batch import CONTENT_TYPE, METADATA, SCHEMA, BatchError, encode
from atalaia.wire import push
from atalaia.wire.bounds import NoStreams
from atalaia.wire.push import read_json, read_push, unambiguous, unpack

from .bodies import json_push, protobuf

NOW = 1_700_000_000_000_000_000
PROTOBUF, JSON = "application/x-protobuf", "application/json; charset=utf-8"


def rows(body: bytes, kind: str = PROTOBUF, encoding: str = "") -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in read_push(body, kind, encoding).table.to_pylist()]


def test_protobuf_and_json_say_the_same() -> None:
    entries = [(5, "x", {"k": "v"}), (-3, "é\n\0"), (1_700_000_000_123_456_789, "")]
    labels = {"b": 'q"\\', "a": "1"}
    expected = [
        (5, '{"a":"1","b":"q\\"\\\\"}', "x", [("k", "v")]),
        (-3, '{"a":"1","b":"q\\"\\\\"}', "é\n\0", []),
        (1_700_000_000_123_456_789, '{"a":"1","b":"q\\"\\\\"}', "", []),
    ]
    found = rows(protobuf({'{b="q\\"\\\\", a="1"}': entries}))
    assert [(*row[:3], row[3] or []) for row in found] == expected
    assert [(*row[:3], row[3] or []) for row in rows(json_push(labels, entries), JSON)] == expected


@given(
    st.lists(
        st.tuples(
            st.integers(-(2**62), 2**62),
            st.text(st.characters(codec="utf-8")),
            st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=3), st.just("v"), max_size=2),
        ),
        max_size=4,
    )
)
def test_any_entries_are_read_back(entries: list[tuple[int, str, dict[str, str]]]) -> None:
    for found in (rows(protobuf({'{a="b"}': entries})), rows(json_push({"a": "b"}, entries), JSON)):
        assert [(ts, line, dict(metadata or [])) for ts, _, line, metadata in found] == entries


def test_encodings() -> None:
    body = json_push({"a": "b"}, [(1, "x")])
    bare = zlib.compressobj(wbits=-15)
    for encoding, packed in [
        ("", body), ("identity", body), ("gzip", gzip.compress(body)), (" GZIP ", gzip.compress(body)),
        ("gzip", gzip.compress(body[:10]) + gzip.compress(body[10:])), ("deflate", zlib.compress(body)),
        ("deflate", bare.compress(body) + bare.flush()), ("snappy", bytes(cramjam.snappy.compress_raw(body))),
    ]:  # fmt: skip
        assert unpack(packed, encoding) == body
        assert rows(packed, JSON, encoding) == [(1, '{"a":"b"}', "x", None)]


def test_protobuf_inside_an_encoding() -> None:
    body = protobuf({'{a="b"}': [(1, "x")]})
    for kind in (PROTOBUF, ""):
        for encoding, packed in [("", body), ("snappy", body), ("gzip", gzip.compress(body))]:
            assert rows(packed, kind, encoding) == [(1, '{"a":"b"}', "x", None)]


@pytest.mark.parametrize(
    ("encoding", "body", "message"),
    [
        ("br", b"x", "'br' is not known"),
        ("gzip", b"", "gzip"),
        ("gzip", b"x", "not gzip"),
        ("gzip", gzip.compress(b"x" * 100, mtime=0)[:-9], "not gzip"),
        ("gzip", gzip.compress(b"x", mtime=0) + b"junk", "not gzip"),
        ("deflate", b"", "cut short"),
        ("deflate", zlib.compress(b"x" * 100)[:-5], "cut short"),
        ("deflate", b"\xff\xff\xff", "not deflate"),
        ("snappy", b"", "not snappy"),
        ("snappy", b"\xff" * 8, "not snappy"),
    ],
)
def test_bad_encodings_are_refused(encoding: str, body: bytes, message: str) -> None:
    if encoding == "gzip" and not body:
        assert unpack(body, encoding) == b""  # nothing is not a push either
        return
    with pytest.raises(BatchError, match=message):
        unpack(body, encoding)


def test_bombs_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(push, "MOST", 1 << 20)
    large = bytes((1 << 20) + 1)
    bare = zlib.compressobj(wbits=-15)
    for encoding, packed in [
        ("gzip", gzip.compress(large)),
        ("gzip", gzip.compress(large[: 1 << 19]) * 3),
        ("deflate", zlib.compress(large)),
        ("deflate", bare.compress(large) + bare.flush()),
        ("snappy", bytes(cramjam.snappy.compress_raw(large))),
    ]:
        assert len(packed) < 1 << 17
        with pytest.raises(BatchError, match="more than 1048576 bytes"):
            unpack(packed, encoding)
    assert unpack(gzip.compress(large[1:]), "gzip") == large[1:]
    with pytest.raises(BatchError, match="the limit is 1048576"):
        read_push(bytes(cramjam.snappy.compress_raw(large)), PROTOBUF, "")


GOOD = ["1", "x"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "not a JSON push"),
        ("[]", "not a JSON push"),
        ("{}", "'streams'"),
        ('{"streams": {}}', "streams is not a list"),
        ('{"streams": [1]}', "stream 0"),
        ('{"streams": [{}]}', "stream 0.*'labels' is missing"),
        ('{"streams": [{"stream": []}]}', "stream 0"),
        ('{"streams": [{"stream": {"a": 1}, "values": []}]}', "'1' is not a string"),
        ('{"streams": [{"stream": {"a": "b"}}]}', "'values' is missing"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [GOOD, ["2"]]}]}), "entry 1: .* not a time, a line"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [GOOD, GOOD, [None, "x"]]}]}), "entry 2: 'None'"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [["1.5", "x"]]}]}), "'1.5' is not a time"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [["1_0", "x"]]}]}), "'1_0' is not a time"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [[1.5, "x"]]}]}), "'1.5' is not a time"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [[True, "x"]]}]}), "'True' is not a time"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [["9" * 19, "x"]]}]}), "is not a time"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [["1", 5]]}]}), "'5' is not a string"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [["1", "x", {"k": 1}]]}]}), "'1' is not a string"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [["1", "x", "k"]]}]}), "entry 0: metadata 'k'"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [["1", "x", []]]}]}), "entry 0: metadata"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [["1", "x", {}, 1]]}]}), "entry 0"),
        (json.dumps({"streams": [{"stream": {"a": "b"}, "values": [[1, "x"]]}]}), "'1' is not a time.* as a string"),
        (json.dumps({"streams": [{"labels": "{}", "entries": [{"line": "x"}]}]}), "'ts' is missing"),
        (json.dumps({"streams": [{"labels": "{}", "entries": [{"ts": "x", "line": "x"}]}]}), "ts='x' is not a time"),
        (json.dumps({"streams": [{"labels": "{}", "entries": [["1", "x"]]}]}), "entry 0"),
    ],
)  # fmt: skip
def test_bad_json_names_the_place(body: str, message: str) -> None:
    with pytest.raises(BatchError, match=message):
        read_json(body.encode())


def test_a_stream_that_is_no_label_set_is_left_to_be_refused_alone() -> None:
    found = rows(protobuf({'{a="b"}': [(1, "x")], "{a=}": [(2, "y")], '{a="1", a="2"}': [(3, "z")]}))
    assert [json.loads(row[1]) for row in found] == [
        {"a": "b"},
        {"{a=}": "is not a label set"},
        {'{a="1", a="2"}': "is not a label set"},
    ]
    body = {"streams": [{"labels": '{a="b"}', "values": [GOOD]}, {"labels": '{"a":"b"}', "values": [GOOD]}]}
    assert [row[1] for row in rows(json.dumps(body).encode(), JSON)] == [
        '{"a":"b"}',
        '{"{\\"a\\":\\"b\\"}":"is not a label set"}',
    ]
    assert rows(protobuf({"{}": [(1, "x")]}))[0][1] == "{}"


def test_metadata_with_equal_keys() -> None:
    body = protobuf({'{a="b"}': [(1, "x", [("k", "1"), ("j", "2"), ("k", "3")]), (2, "y")]})
    assert [dict(row[3]) for row in rows(body)] == [{"k": "1", "j": "2"}, {}]
    table = pa.Table.from_arrays(
        [
            pa.array([1], pa.int64()),
            pa.array(['{"a":"b"}']).dictionary_encode(),
            pa.array(["x"]),
            pa.array([[("k", "1"), ("k", "2")]], METADATA),
        ],
        schema=SCHEMA,
    )
    with pytest.raises(BatchError, match="a key twice"):
        read_push(encode(table), CONTENT_TYPE, "")


@pytest.mark.parametrize(
    ("pairs", "good"),
    [
        ([], True),
        ([None, []], True),
        ([[("a", "1")], None, [("a", "1"), ("b", "1")]], True),
        ([[("a", "1")], [("a", "1"), ("b", "1"), ("a", "2")]], False),
        ([[("a", None)]], False),
    ],
)
def test_unambiguous_metadata(pairs: list[Any], good: bool) -> None:
    assert unambiguous(pa.chunked_array([pa.array(pairs, METADATA)])) is good
    longer = pa.array([[("x", "1"), ("x", "2")], *pairs], METADATA)
    assert unambiguous(pa.chunked_array([longer[1:]])) is good


def test_arrow_bodies_are_kept_as_they_came() -> None:
    body = json_push({"a": "b"}, [(1, "x", {"k": "v"})])
    sent = encode(read_json(body))
    found = read_push(gzip.compress(sent), CONTENT_TYPE, "gzip")
    assert found.payload == sent
    with pytest.raises(BatchError, match="not a batch of log entries"):
        read_push(b"x", CONTENT_TYPE, "")


@pytest.mark.parametrize("body", [b"", b"\xff", bytes(cramjam.snappy.compress_raw(b"\xff\xff"))])
def test_bad_protobuf(body: bytes) -> None:
    with pytest.raises(BatchError, match="not a snappy-compressed"):
        read_push(body, PROTOBUF, "")


def test_text_that_is_not_utf8_is_refused() -> None:
    body = cramjam.snappy.compress_raw(
        bytes(cramjam.snappy.decompress_raw(protobuf({'{a="b"}': [(1, "zzz")]}))).replace(b"zzz", b"z\xffz")
    )
    with pytest.raises(BatchError, match="UTF-8"):
        read_push(bytes(body), PROTOBUF, "")
    with pytest.raises(BatchError, match="not a JSON push"):
        read_json(b'{"streams": [{"stream": {"a": "\xff"}, "values": []}]}')


def test_an_unknown_content_type_is_named() -> None:
    with pytest.raises(BatchError, match="'text/plain' is not known"):
        read_push(b"", "text/plain", "")


def test_pushes_of_empty_streams_have_no_entries() -> None:
    assert rows(protobuf({'{a="b"}': []})) == rows(b'{"streams": [{"stream": {"a": "b"}, "values": []}]}', JSON) == []


@pytest.mark.parametrize(("body", "kind"), [(protobuf({}), PROTOBUF), (b'{"streams": []}', JSON)])
def test_pushes_of_no_streams_are_refused(body: bytes, kind: str) -> None:
    with pytest.raises(NoStreams, match="error at least one valid stream is required for ingestion"):
        read_push(body, kind, "")


def test_the_old_form_of_entries() -> None:
    entries = [{"ts": "2023-11-14T22:13:20.000000001Z", "line": "x"}, {"ts": "2023-11-14T23:13:20+01:00", "line": ""}]
    body = json.dumps({"streams": [{"labels": '{a="b"}', "entries": entries}]}).encode()
    assert rows(body, JSON) == [(NOW + 1, '{"a":"b"}', "x", None), (NOW, '{"a":"b"}', "", None)]


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_encodings_that_are_unpacked_piece_by_piece(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = json_push({"a": "b"}, [(5, "x" * 1000)])
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as packer:
        packer.write(body)
    packed = sink.getvalue().to_pybytes()
    assert len(rows(packed, JSON, codec)) == 1
    with pytest.raises(BatchError, match=f"not {codec}"):
        rows(b"no" + packed, JSON, codec)
    monkeypatch.setattr(push, "MOST", 500)
    with pytest.raises(BatchError, match="more than 500 bytes"):
        rows(packed, JSON, codec)
