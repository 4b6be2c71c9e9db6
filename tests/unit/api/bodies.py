"""Bodies of pushes as Loki's clients make them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import cramjam
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

from atalaia.wire.protobuf import push_file

Entry = tuple[int, str] | tuple[int, str, Mapping[str, str] | Sequence[tuple[str, str]]]


@cache
def _message() -> Any:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb))
    pool.Add(push_file())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("logproto.PushRequest"))


def protobuf(streams: Mapping[str, Sequence[Entry]]) -> bytes:
    """A snappy-compressed logproto.PushRequest of streams by the text of their labels."""
    push = _message()()
    for labels, entries in streams.items():
        stream = push.streams.add(labels=labels)
        for ts, line, *metadata in entries:
            entry = stream.entries.add(line=line)
            entry.timestamp.seconds, entry.timestamp.nanos = divmod(ts, 10**9)
            pairs: Any = metadata[0] if metadata else {}
            for name, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
                entry.structuredMetadata.add(name=name, value=value)
    return bytes(cramjam.snappy.compress_raw(push.SerializeToString()))


def json_push(labels: Mapping[str, str], entries: Sequence[Entry]) -> bytes:
    """Loki's JSON push of one stream."""
    values = [[str(ts), line, *rest] for ts, line, *rest in entries]
    return json.dumps({"streams": [{"stream": dict(labels), "values": values}]}).encode()


def varint(value: int) -> bytes:
    low = value & 127
    return bytes([low | 128]) + varint(value >> 7) if value > 127 else bytes([low])


def field(number: int, data: bytes) -> bytes:
    """A field of protobuf that has a length."""
    return varint(number << 3 | 2) + varint(len(data)) + data
