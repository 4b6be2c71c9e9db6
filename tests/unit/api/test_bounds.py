"""Bodies with more than a push may hold are refused before they take memory."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable
from typing import Any

import cramjam
import pytest

from atalaia.api import otlp, otlp_json
from atalaia.api.otlp import read_logs
from atalaia.wire import bounds, push_json
from atalaia.wire import protobuf as protobuf_module
from atalaia.wire.bounds import MOST_ENTRIES, Shape, TooLarge, check_json, check_protobuf
from atalaia.wire.push import read_push

from .bodies import field, protobuf, varint

PUSH = {1: Shape("streams", 10, {2: Shape("entries", 100, {3: Shape("pairs", 1000)})})}


def test_parts_are_counted_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "_SMALL", 0)
    noise = varint(4 << 3) + varint(300) + varint(5 << 3 | 1) + bytes(8) + varint(6 << 3 | 5) + bytes(4)
    # A text may look like any number of tags.
    entry = field(2, field(2, b"\x12\x1a\x0a" * 500) + noise + field(3, b"") * 9)
    full = field(1, entry * 50) * 2
    check_protobuf(full, PUSH)
    with pytest.raises(TooLarge, match="more than 100 entries"):
        check_protobuf(full + field(1, field(2, b"")), PUSH)
    with pytest.raises(TooLarge, match="more than 10 streams"):
        check_protobuf(field(1, b"") * 11, PUSH)
    with pytest.raises(TooLarge, match="more than 1000 pairs"):
        check_protobuf(field(1, field(2, field(3, b"") * 1001)), PUSH)


def test_any_bytes_can_be_counted(monkeypatch: pytest.MonkeyPatch, rng: random.Random) -> None:
    monkeypatch.setattr(bounds, "_SMALL", 0)
    everything = {n: Shape(f"part {n}", 0, {m: Shape(f"part {n}.{m}", 5) for m in range(32)}) for n in range(1, 5)}
    for _ in range(2000):
        raw = bytearray(rng.randbytes(rng.randrange(60)))
        raw += field(1, rng.randbytes(9))[: rng.randrange(12)]
        with contextlib.suppress(TooLarge):
            check_protobuf(bytes(raw), everything)


BOMBS: dict[str, Callable[[], Any]] = {
    "push": lambda: read_push(
        bytes(cramjam.snappy.compress_raw(field(1, field(1, b"{}") + b"\x12\x00" * 1_200_000))), "", ""
    ),
    "otlp": lambda: read_logs(field(1, field(2, b"\x12\x00" * 1_200_000)), "application/x-protobuf", ""),
    "attributes": lambda: read_logs(
        field(1, field(2, field(2, b"\x32\x00" * 4_200_000))), "application/x-protobuf", ""
    ),
    "json": lambda: read_push(
        b'{"streams":[{"stream":{},"values":[' + b"[]," * 20_000_000 + b"0]}]}", "application/json", ""
    ),
    "texts": lambda: read_push(
        b'{"streams":[{"stream":{},"values":[' + b'"ab",' * 10_000_000 + b"0]}]}", "application/json", ""
    ),
    "otlp json": lambda: read_logs(b'{"resourceLogs":[' + b"{}," * 20_000_000 + b"0]}", "application/json", ""),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_body_of_tiny_parts_is_refused_unread(bomb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object) -> None:
        raise AssertionError("it was read")

    for module in (protobuf_module, otlp):
        monkeypatch.setattr(module, "_handler" if module is protobuf_module else "handler", read)
    for module in (push_json, otlp_json):
        monkeypatch.setattr(module.orjson, "loads", read)
    with pytest.raises(TooLarge, match="send smaller batches"):
        BOMBS[bomb]()


def test_as_many_entries_as_allowed_are_taken() -> None:
    body = protobuf({'{a="b"}': [(1, "")] * 200_000})
    assert len(read_push(body, "", "").table) == 200_000
    check_json(b'{"streams":[{"stream":{},"values":[' + b'["1","x"],' * (MOST_ENTRIES - 1) + b"0]}]}")


def test_attributes_shared_by_many_entries_are_counted_for_each() -> None:
    resource = field(1, b"".join(field(1, field(1, b"key%d" % n)) for n in range(100)))
    with pytest.raises(TooLarge, match="more than 4000000 attributes"):
        read_logs(field(1, resource + field(2, b"\x12\x00" * 100_000)), "application/x-protobuf", "")
    resource = field(1, field(1, field(1, b"key") + field(2, field(1, b"v" * 100_000))))
    with pytest.raises(TooLarge, match=r"more than \d+ bytes"):
        read_logs(field(1, resource + field(2, b"\x12\x00" * 100_000)), "application/x-protobuf", "")
