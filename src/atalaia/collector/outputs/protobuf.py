"""Loki's protobuf push of a table. The schema: grafana/loki pkg/push/push.proto."""

from __future__ import annotations

import cramjam
import numpy as np
import orjson
import pyarrow as pa

from atalaia.collector.outputs.columns import (
    data_of,
    grouped,
    joined,
    lengths,
    offsets_of,
    packed,
    regrouped,
    varint_sizes,
)

_S = 1_000_000_000
# Field numbers with wire type 2 (length) or 0 (varint), as the schema gives them.
_STREAMS, _LABELS, _ENTRIES = 0x0A, 0x0A, 0x12
_TIMESTAMP, _LINE, _METADATA = 0x0A, 0x12, 0x1A
_SECONDS, _NANOS = 0x08, 0x10
_NAME, _VALUE = 0x0A, 0x12


def encode_push(table: pa.Table) -> bytes:
    """A raw-snappy logproto.PushRequest of a table of the store's transit schema; times from 1970 on."""
    table, streams = grouped(table)
    parts: list[bytes | memoryview] = []
    if streams:
        entries = _entries(table)
        offsets, data = offsets_of(entries), data_of(entries)
        for stream in streams:
            labels = selector(stream.labels).encode()
            body = data[offsets[stream.start] : offsets[stream.end]]
            head = bytes([_LABELS]) + _varint(len(labels)) + labels
            parts += [bytes([_STREAMS]) + _varint(len(head) + len(body)) + head, body]
    return bytes(cramjam.snappy.compress_raw(b"".join(parts)))


def selector(labels: str) -> str:
    """Canonical labels as Prometheus writes them: `{a="b", c="d"}`. JSON's escapes are all Go's, too."""
    found: dict[str, str] = orjson.loads(labels)
    return "{" + ", ".join(f"{name}={orjson.dumps(value).decode()}" for name, value in found.items()) + "}"


def _entries(table: pa.Table) -> pa.Array:
    """binary[N]: each entry with its key and length, ready to stand in its stream."""
    count = len(table)
    ts, lines = table.column("ts").chunk(0).to_numpy(), table.column("line").chunk(0)
    seconds, nanos = ts // _S, ts % _S
    # 1 for each key; a timestamp is shorter than 128 bytes, so that its length takes one byte.
    time_size = 2 + varint_sizes(seconds) + varint_sizes(nanos)
    line_size = lengths(lines)
    size = 2 + time_size + 1 + varint_sizes(line_size) + line_size
    pairs = _pairs(table.column("metadata").chunk(0))
    if pairs is not None:
        size = size + lengths(pairs)
    head = packed([_ENTRIES, size, _TIMESTAMP, time_size, _SECONDS, seconds, _NANOS, nanos, _LINE, line_size], count)
    return joined([head, lines] if pairs is None else [head, lines, pairs])


def _pairs(metadata: pa.MapArray) -> pa.Array | None:
    """binary[N]: each entry's structured metadata; None when no entry has any."""
    starts = metadata.offsets.to_numpy()
    first, last = int(starts[0]), int(starts[-1])
    if first == last:
        return None
    names, values = metadata.keys.slice(first, last - first), metadata.items.slice(first, last - first)
    name_size, value_size = lengths(names), lengths(values)
    size = 2 + varint_sizes(name_size) + name_size + varint_sizes(value_size) + value_size
    before = packed([_METADATA, size, _NAME, name_size], last - first)
    between = packed([_VALUE, value_size], last - first)
    return regrouped(joined([before, names, between, values]), np.asarray(starts) - first)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
