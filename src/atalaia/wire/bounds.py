"""How much a body may hold: tiny entries take far more memory once read, so they are counted before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from atalaia.environment.errors import AtalaiaError, InputError

MOST_ENTRIES = 1_000_000  # of a push
MOST_PAIRS = 4_000_000  # of its metadata and attributes
_SMALL = 2 << 20  # bytes of a body that cannot hold enough to matter, whatever is in it
_LENGTH = 2  # protobuf's wire type of what has a length: messages, texts, bytes


class TooLarge(InputError):
    """The body of a request is larger, or has more in it, than the server reads."""


class NoStreams(AtalaiaError):
    """A push without any stream; as Loki, the server answers 422."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The messages to count in one of a protobuf message's fields; `limit`: how many a push may have in all."""

    name: str
    limit: int
    fields: Mapping[int, Shape] = field(default_factory=dict)


def check_count(name: str, count: int, limit: int) -> None:
    """Raises TooLarge when a push has too many of something."""
    if count > limit:
        raise TooLarge(f"the push has more than {limit} {name}: send smaller batches")


def check_streams(count: int) -> None:
    """Raises NoStreams when a push has none."""
    if not count:
        raise NoStreams("error at least one valid stream is required for ingestion", "send streams")


def check_protobuf(raw: bytes, fields: Mapping[int, Shape]) -> None:
    """Raises TooLarge when the message has more parts than a push may have. What is malformed is left to the reader."""
    if len(raw) <= _SMALL:
        return
    # Each part has a byte of its own for its tag, so that there are no more parts than such bytes.
    if any(raw.count(number << 3 | _LENGTH) > shape.limit for number, shape in _shapes(fields)):
        _count(raw, 0, len(raw), fields, {})


def _shapes(fields: Mapping[int, Shape]) -> Iterator[tuple[int, Shape]]:
    for number, shape in fields.items():
        yield number, shape
        yield from _shapes(shape.fields)


def _count(raw: bytes, at: int, end: int, fields: Mapping[int, Shape], seen: dict[str, int]) -> None:
    while at < end:
        tag, at = (raw[at], at + 1) if raw[at] < 128 else _varint(raw, at, end)
        kind = tag & 7
        if kind == _LENGTH:
            length, at = (raw[at], at + 1) if at < end and raw[at] < 128 else _varint(raw, at, end)
            if shape := fields.get(tag >> 3):
                seen[shape.name] = found = seen.get(shape.name, 0) + 1
                check_count(shape.name, found, shape.limit)
                if shape.fields:
                    _count(raw, at, min(at + length, end), shape.fields, seen)
            at += length
        elif kind == 0:
            _, at = _varint(raw, at, end)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:  # a group, or nothing that protobuf has
            return


def _varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = raw[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
    return 0, end


def check_json(body: bytes) -> None:
    """Raises TooLarge when a JSON body has more lists, objects and texts than a push may have."""
    if len(body) <= _SMALL:
        return
    containers = body.count(b"[") + body.count(b"{")
    # An escaped quote is part of a text; so are brackets in lines, which are few beside the letters around them.
    texts = (body.count(b'"') - body.count(b'\\"')) // 2
    check_count("lists and objects", containers, MOST_ENTRIES * 4)
    check_count("texts", texts, MOST_PAIRS)
    check_count("values", body.count(b","), max(MOST_PAIRS * 2, len(body) // 8))
