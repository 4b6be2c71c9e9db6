"""Loki's JSON push of a table, for servers that do not take protobuf."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.outputs.columns import data_of, grouped, joined, offsets_of, regrouped

_ESCAPED = {ord('"'): '\\"', ord("\\"): "\\\\", 8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r"}
_SPECIAL = [ord("\\"), *(byte for byte in range(128) if byte < 32 or byte == ord('"'))]  # the backslash first
_IS_SPECIAL = np.isin(np.arange(256), _SPECIAL)


def loki_json(table: pa.Table) -> bytes:
    """The body of a push, of a table of the store's transit schema."""
    table, streams = grouped(table)
    parts: list[bytes | memoryview] = []
    if streams:
        values = _values(table)
        offsets, data = offsets_of(values), data_of(values)
        for stream in streams:
            # Each value ends with a comma; the stream's last one does without.
            body = data[offsets[stream.start] : offsets[stream.end] - 1]
            parts += [b'{"stream":' + stream.labels.encode() + b',"values":[', body, b"]}", b","]
        parts.pop()
    return b"".join([b'{"streams":[', *parts, b"]}"])


def _values(table: pa.Table) -> pa.Array:
    """binary[N]: `["TS","LINE"],` or `["TS","LINE",{…}],` of each entry."""
    times = table.column("ts").chunk(0).cast(pa.utf8())
    columns = [_every(b'["', table), times, _every(b'","', table), escaped(table.column("line").chunk(0))]
    pairs = _pairs(table.column("metadata").chunk(0))
    if pairs is None:
        return joined([*columns, _every(b'"],', table)])
    some = pc.greater(pc.binary_length(pairs), 0)
    before, behind = pc.if_else(some, b'",{', b'"'), pc.if_else(some, b"}],", b"],")
    return joined([*columns, before, pairs, behind])


def _every(text: bytes, table: pa.Table) -> pa.Array:
    return pa.repeat(pa.scalar(text, pa.binary()), len(table))


def _pairs(metadata: pa.MapArray) -> pa.Array | None:
    """binary[N]: `"NAME":"VALUE",…` of each entry; None when no entry has metadata."""
    starts = np.asarray(metadata.offsets.to_numpy())
    first, count = int(starts[0]), int(starts[-1] - starts[0])
    if not count:
        return None
    starts = starts - first
    names, values = (escaped(text.slice(first, count)) for text in (metadata.keys, metadata.items))
    begins = np.zeros(count, bool)
    begins[starts[:-1][starts[:-1] < count]] = True
    open_, between, close = (pa.scalar(text, pa.binary()) for text in (b'"', b'":"', b'"'))
    head = pc.if_else(pa.array(begins), open_, pa.scalar(b',"', pa.binary()))
    return regrouped(joined([head, names, pa.repeat(between, count), values, pa.repeat(close, count)]), starts)


def escaped(texts: pa.Array) -> pa.Array:
    """The texts as they stand between the quotes of JSON."""
    offsets = offsets_of(texts)
    data = np.frombuffer(data_of(texts), np.uint8)[int(offsets[0]) : int(offsets[-1])] if len(texts) else np.empty(0)
    if not len(data):
        return texts
    # What does not occur need not be sought.
    found = np.bincount(data, minlength=256)[: len(_IS_SPECIAL)].astype(bool) & _IS_SPECIAL
    for byte in _SPECIAL:
        if found[byte]:
            texts = pc.replace_substring(texts, chr(byte), _ESCAPED.get(byte, f"\\u{byte:04x}"))
    return texts
