"""POST /loki/api/v1/push: every kind of body, what is refused, and what then is stored."""

from __future__ import annotations

import gzip
import json
import struct
import zlib
from typing import Any

import cramjam
import pyarrow as pa
import pytest
from api_support import NOW, S, Served, Tenant, assert_quiet, raw, served, tenant

from atalaia.store.batch import CONTENT_TYPE, METADATA, MOST, SCHEMA, Source, encode

__all__ = ["served", "tenant"]
PUSH = "/loki/api/v1/push"


def arrow(lines: list[str], sources: tuple[Source, ...] = (), labels: str = '{"app":"a"}') -> bytes:
    columns = [
        pa.array([NOW + number for number in range(len(lines))], pa.int64()),
        pa.array([labels] * len(lines)).dictionary_encode(),
        pa.array(lines, pa.utf8()),
        pa.nulls(len(lines), METADATA),
    ]
    return encode(pa.Table.from_arrays(columns, schema=SCHEMA), sources)


def protobuf(lines: list[bytes]) -> bytes:
    """A PushRequest written by hand, from the documentation of its fields."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2]) + varint(len(data)) + data

    def varint(value: int) -> bytes:
        low = value & 127
        return bytes([low | 128]) + varint(value >> 7) if value > 127 else bytes([low])

    seconds, nanos = divmod(NOW, S)
    entries = b"".join(
        field(2, field(1, b"\x08" + varint(seconds) + b"\x10" + varint(nanos + n)) + field(2, line))
        for n, line in enumerate(lines)
    )
    return bytes(cramjam.snappy.compress_raw(field(1, field(1, b'{app="a"}') + entries)))


def values(lines: list[str]) -> bytes:
    pairs = [[str(NOW + n), line] for n, line in enumerate(lines)]
    return json.dumps({"streams": [{"stream": {"app": "a"}, "values": pairs}]}).encode()


LINES = ["one", "zwei 2 é\n\0", ""]
BODY = values(LINES)
PROTOBUF = protobuf([line.encode() for line in LINES])


@pytest.mark.parametrize(
    ("kind", "encoding", "body"),
    [
        ("application/json", "", BODY),
        ("application/json; charset=utf-8", "gzip", gzip.compress(BODY, mtime=0)),
        ("application/json", "deflate", zlib.compress(BODY)),
        ("application/json", "snappy", bytes(cramjam.snappy.compress_raw(BODY))),
        ("application/x-protobuf", "", PROTOBUF),
        ("application/x-protobuf", "snappy", PROTOBUF),
        ("application/x-protobuf", "gzip", gzip.compress(PROTOBUF, mtime=0)),
        ("", "", PROTOBUF),
        (CONTENT_TYPE, "", arrow(LINES)),
        (CONTENT_TYPE, "gzip", gzip.compress(arrow(LINES), mtime=0)),
    ],
)
def test_every_kind_of_body(tenant: Tenant, kind: str, encoding: str, body: bytes) -> None:
    headers = {name: value for name, value in (("Content-Type", kind), ("Content-Encoding", encoding)) if value}
    answer = tenant.call(PUSH, "POST", content=body, headers=headers)
    assert (answer.status_code, answer.content) == (204, b"")
    assert tenant.lines('{app="a"}', direction="forward") == LINES


def test_a_chunked_body(tenant: Tenant) -> None:
    pieces = (BODY[at : at + 7] for at in range(0, len(BODY), 7))
    answer = tenant.call(PUSH, "POST", content=pieces, headers={"Content-Type": "application/json"})
    assert answer.status_code == 204
    assert tenant.lines('{app="a"}', direction="forward") == LINES


@pytest.mark.parametrize(
    ("kind", "encoding", "body", "message"),
    [
        ("application/json", "", b"{", "not a JSON push"),
        ("application/json", "gzip", b"x", "the body is not gzip"),
        ("application/json", "br", b"x", "Content-Encoding 'br' is not known"),
        ("application/x-protobuf", "", b"x", "not a snappy-compressed"),
        (CONTENT_TYPE, "", b"x", "not a batch of log entries"),
        ("text/plain", "", b"x", "Content-Type 'text/plain' is not known"),
        ("application/json", "", b'{"streams":[{"stream":{"a":"b"},"values":[["1","x"],["x","y"]]}]}', "entry 1"),
    ],
)
def test_a_bad_body_is_named_and_nothing_of_it_stored(
    tenant: Tenant, kind: str, encoding: str, body: bytes, message: str
) -> None:
    answer = tenant.call(PUSH, "POST", content=body, headers={"Content-Type": kind, "Content-Encoding": encoding})
    assert (answer.status_code, answer.headers["content-type"]) == (400, "text/plain; charset=utf-8")
    assert message in answer.text
    assert tenant.get("series", start=0, end=NOW) == []


def test_bombs_and_oversized_bodies_are_refused(served: Served, tenant: Tenant) -> None:
    member = gzip.compress(bytes(32 << 20))
    bomb = member * (MOST // (32 << 20)) + gzip.compress(b"x")
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    answer = tenant.call(PUSH, "POST", content=bomb, headers=headers)
    assert (answer.status_code, "unpacks to more than" in answer.text) == (400, True)
    size = bytes(cramjam.snappy.compress_raw(b""))[:0] + b"\xff\xff\xff\xff\x0f"  # the frame says 4 GiB
    answer = tenant.call(PUSH, "POST", content=size, headers={"Content-Type": "application/x-protobuf"})
    assert (answer.status_code, "the limit is" in answer.text) == (400, True)
    line, huge = struct.pack("<q", 100_000), struct.pack("<q", 4 << 30)
    bomb = arrow(["x" * 100_000]).replace(line, huge)
    answer = tenant.call(PUSH, "POST", content=bomb, headers={"Content-Type": CONTENT_TYPE})
    assert (answer.status_code, f"bytes; the limit is {MOST}" in answer.text) == (400, True)
    head = f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {MOST + 1}\r\n\r\n"
    assert b"413 " in raw(served, head.encode(), finish=False)


def test_bad_entries_are_refused_alone_and_the_first_is_named(tenant: Tenant) -> None:
    streams = [
        {"stream": {"app": "a"}, "values": [[str(NOW), "good"], [str(NOW), "x" * (1 << 20) + "y"]]},
        {"stream": {"bad-name": "a"}, "values": [[str(NOW), "no"]]},
        {"labels": "{app=}", "values": [[str(NOW), "no"]]},
        {"stream": {"app": "a"}, "values": [[str(NOW + 10**18), "no"], [str(NOW + 1), "good too"]]},
    ]
    answer = tenant.call(PUSH, "POST", json={"streams": streams})
    assert answer.status_code == 400
    assert answer.text.startswith("4 entries refused, 2 stored; entry 1 at ")
    assert "1048577 bytes" in answer.text
    assert tenant.lines('{app="a"}', direction="forward") == ["good", "good too"]


def test_an_entry_of_the_far_future_and_one_before_1970(tenant: Tenant) -> None:
    for ts in (-1, 9_200_000_000 * S):
        body = {"streams": [{"stream": {"app": "a"}, "values": [[str(ts), "x"]]}]}
        answer = tenant.call(PUSH, "POST", json=body)
        assert answer.status_code == 400
        assert "1 entries refused, 0 stored; entry 0" in answer.text


def test_old_entries_and_entries_out_of_order_are_welcome(tenant: Tenant) -> None:
    for ts in (NOW, NOW - 400 * 86400 * S, NOW - S, 0):
        tenant.push({"app": "a"}, [(ts, str(ts))])
    assert tenant.lines('{app="a"}', start=0, end=NOW + 1, direction="forward") == [
        "0",
        str(NOW - 400 * 86400 * S),
        str(NOW - S),
        str(NOW),
    ]


def test_a_batch_sent_twice_is_stored_once(tenant: Tenant) -> None:
    source = f"file-{tenant.name}"
    headers = {"Content-Type": CONTENT_TYPE}

    def send(lines: list[str], start: int, end: int) -> tuple[int, Any]:
        answer = tenant.call(PUSH, "POST", content=arrow(lines, (Source(source, start, end),)), headers=headers)
        return answer.status_code, answer.json() if answer.content else None

    assert send(["a", "b"], 0, 4) == (204, None)
    assert send(["a", "b"], 0, 4) == (409, {"positions": {source: 4}})
    assert send(["c"], 9, 11) == (409, {"positions": {source: 4}})
    assert send(["c"], 4, 6) == (204, None)
    assert sorted(tenant.lines('{app="a"}')) == ["a", "b", "c"]
    answer = tenant.call("/atalaia/v1/positions", "POST", json={"ids": [source, "unknown"]})
    assert answer.json() == {"positions": {source: 6}}
    assert tenant.call("/atalaia/v1/positions", "POST", json={"ids": "x"}).status_code == 400


def test_metadata_with_a_key_twice_does_not_spoil_the_store(tenant: Tenant) -> None:
    pairs = b"\x1a\x06\x0a\x01k\x12\x011" + b"\x1a\x06\x0a\x01k\x12\x012"
    entry = b"\x0a\x06\x08" + b"\x80\xe2\xcf\xaa\x06" + b"\x12\x01x" + pairs
    stream = b"\x0a\x09" + b'{app="a"}' + b"\x12" + bytes([len(entry)]) + entry
    body = cramjam.snappy.compress_raw(b"\x0a" + bytes([len(stream)]) + stream)
    answer = tenant.call(PUSH, "POST", content=bytes(body), headers={"Content-Type": "application/x-protobuf"})
    assert answer.status_code == 204, answer.text
    (found,) = tenant.streams('{app="a"}', start=0)
    assert found == {"stream": {"app": "a", "k": "1"}, "values": [[str(1_700_000_000 * S), "x"]]}


def test_a_client_that_goes_away_in_the_middle(served: Served, tenant: Tenant) -> None:
    head = f"POST {PUSH} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n"
    raw(served, head.encode() + b"half")
    tenant.push({"app": "a"}, [(NOW, "x")])
    assert_quiet(served)
