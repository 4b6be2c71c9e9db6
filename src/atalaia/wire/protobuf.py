"""Loki's protobuf push, straight into Arrow. The schema: grafana/loki pkg/push/push.proto, as docs list it."""

from __future__ import annotations

from functools import cache

import cramjam
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import descriptor_pb2, descriptor_pool, timestamp_pb2
from ptars import HandlerPool

from atalaia.environment.errors import AtalaiaError
from atalaia.store.batch import METADATA, SCHEMA, BatchError
from atalaia.wire.bounds import MOST_ENTRIES, MOST_PAIRS, Shape, check_protobuf, check_streams
from atalaia.wire.labels import stream_text

_FIELD = descriptor_pb2.FieldDescriptorProto
_MESSAGES = {
    "PushRequest": (("streams", 1, ".logproto.Stream", True),),
    "Stream": (
        ("labels", 1, "string", False),
        ("entries", 2, ".logproto.Entry", True),
        ("hash", 3, "uint64", False),
    ),
    "LabelPair": (("name", 1, "string", False), ("value", 2, "string", False)),
    "Entry": (
        ("timestamp", 1, ".google.protobuf.Timestamp", False),
        ("line", 2, "string", False),
        ("structuredMetadata", 3, ".logproto.LabelPair", True),
    ),
}
_COUNTED = {
    1: Shape("streams", MOST_ENTRIES, {2: Shape("entries", MOST_ENTRIES, {3: Shape("metadata pairs", MOST_PAIRS)})})
}


def push_file() -> descriptor_pb2.FileDescriptorProto:
    """The .proto file of a push, made here so that no generated code has to be kept."""
    file = descriptor_pb2.FileDescriptorProto(name="logproto.proto", package="logproto", syntax="proto3")
    file.dependency.append("google/protobuf/timestamp.proto")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
            if kind.startswith("."):
                message.field.add(name=field, number=number, label=label, type=_FIELD.TYPE_MESSAGE, type_name=kind)
            else:
                scalar = _FIELD.TYPE_STRING if kind == "string" else _FIELD.TYPE_UINT64
                message.field.add(name=field, number=number, label=label, type=scalar)
    return file


@cache
def _handler() -> object:
    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorProto.FromString(timestamp_pb2.DESCRIPTOR.serialized_pb))
    pool.Add(push_file())
    descriptor = pool.FindMessageTypeByName("logproto.PushRequest")
    return HandlerPool([descriptor.file]).get_for_message(descriptor)


def decode_push(body: bytes, most: int) -> pa.Table:
    """Entries of a raw-snappy `logproto.PushRequest`.

    Raises BatchError when it is not one or unpacks beyond `most` bytes, TooLarge when it has too many entries.
    """
    try:
        # The frame tells its size before anything is unpacked.
        size = cramjam.snappy.decompress_raw_len(body)
        if size > most:
            raise BatchError(f"the push unpacks to {size} bytes; the limit is {most}", "send smaller batches")
        raw = bytes(cramjam.snappy.decompress_raw(body))
        check_protobuf(raw, _COUNTED)
        batch = _handler().list_to_record_batch([raw])  # type: ignore[attr-defined]  # ptars has no types
        batch.validate(full=True)
        return _table(batch)
    except AtalaiaError:
        raise
    except Exception as error:  # ptars and cramjam raise types of their own
        raise BatchError(
            f"not a snappy-compressed logproto.PushRequest: {error}",
            "see Loki's documentation of POST /loki/api/v1/push",
        ) from error


def _table(batch: pa.RecordBatch) -> pa.Table:
    streams = batch.column("streams").flatten()
    check_streams(len(streams))
    entries = streams.field("entries")
    stream_of = pc.list_parent_indices(entries)
    flat = entries.flatten()
    texts = [stream_text(text) for text in streams.field("labels").to_pylist()]
    dictionary = pa.array(texts, pa.utf8()).dictionary_encode()
    # An entry without a timestamp is one of 1970, as a message without a field has the field's zero.
    ts = pc.cast(flat.field("timestamp"), pa.timestamp("ns")).cast(pa.int64()).fill_null(0)
    columns = [
        ts,
        pa.DictionaryArray.from_arrays(dictionary.indices.take(stream_of), dictionary.dictionary),
        flat.field("line"),
        _metadata(flat.field("structuredMetadata")),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _metadata(pairs: pa.Array) -> pa.Array:
    items = pairs.flatten()
    if not len(items):
        return pa.nulls(len(pairs), METADATA)
    return pa.MapArray.from_arrays(pairs.offsets, items.field("name"), items.field("value"))
