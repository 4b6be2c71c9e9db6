from __future__ import annotations

import gzip
import json
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.collector.listeners import gelf
from atalaia.collector.listeners.gelf import Chunks, labels_of, message_of

MESSAGE = {
    "version": "1.1",
    "host": "example.org",
    "short_message": "A short message",
    "timestamp": 1385053862.3072,
    "level": 1,
}


def chunked(data: bytes, size: int, number: bytes = b"12345678") -> list[bytes]:
    parts = [data[at : at + size] for at in range(0, len(data), size)]
    return [b"\x1e\x0f" + number + bytes([at, len(parts)]) + part for at, part in enumerate(parts)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zlib.compress, lambda data: data + b"\0"])
def test_a_message_is_read_as_it_is_sent(pack: object) -> None:
    assert message_of(pack(json.dumps(MESSAGE).encode())) == MESSAGE  # type: ignore[operator]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"short_message": 7}',
        b"\x1f\x8bnothing",
        gzip.compress(b"{}", mtime=0)[:-9],
        gzip.compress(b" " * (3 << 20), mtime=0),
    ],
)
def test_what_is_no_message_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="it "):
        message_of(data)


@given(st.binary(min_size=1, max_size=300), st.integers(3, 50), st.randoms(use_true_random=False))
def test_chunks_come_together_in_any_order(data: bytes, size: int, shuffle: random.Random) -> None:
    chunks = Chunks()
    one, two = chunked(data, size, b"aaaaaaaa"), chunked(data, size, b"bbbbbbbb")
    mixed = [*one, *two, one[0]]
    shuffle.shuffle(mixed)
    found = [whole for datagram in mixed if (whole := chunks.add("10.0.0.1", datagram)) is not None]
    assert found[:2] == [data, data]


def test_chunks_that_stay_alone_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    chunks = Chunks()
    now = 100.0
    monkeypatch.setattr(gelf.time, "monotonic", lambda: now)
    assert chunks.add("a", chunked(b"x" * 10, 5)[0]) is None
    assert chunks.expire() == 0
    now = 106.0
    assert chunks.expire() == 1
    assert chunks.expire() == 0


def test_chunks_take_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gelf, "_WAITING", 1000)
    chunks = Chunks()
    for number in range(20):
        assert chunks.add("a", chunked(b"x" * 400, 200, b"%08d" % number)[0]) is None
    assert chunks.expire() >= 15
    assert chunks.add("a", chunked(b"x" * 400, 200, b"%08d" % 19)[1]) == b"x" * 400


@pytest.mark.parametrize(
    "header", [b"\x1e\x0f", b"\x1e\x0f12345678\x00\x00x", b"\x1e\x0f12345678\x02\x02x", b"\x1e\x0f12345678\x00\xffx"]
)
def test_bad_chunks_are_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match="a chunk is"):
        Chunks().add("a", header)


def test_labels_have_levels_by_name_and_additional_fields_without_their_underscore() -> None:
    found = labels_of(
        {**MESSAGE, "_user-id": 9001, "_some": "text", "full_message": "x", "facility": "f", "_null": None}
    )
    assert found == {
        "__gelf_message_version": "1.1",
        "__gelf_message_host": "example.org",
        "__gelf_message_level": "alert",
        "__gelf_message_facility": "f",
        "__gelf_message_user_id": "9001",
        "__gelf_message_some": "text",
    }
