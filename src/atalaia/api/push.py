"""The bodies of pushes: Arrow, protobuf and JSON, plain or compressed, as a table of entries."""

from __future__ import annotations

from dataclasses import dataclass

import cramjam
import orjson
import pyarrow as pa

from atalaia.api.labels import parse_label_text
from atalaia.api.protobuf import decode_push
from atalaia.store.batch import CONTENT_TYPE, METADATA, SCHEMA, BatchError, Source, canonical, decode

MOST = 256 << 20  # bytes of a body, unpacked


@dataclass(frozen=True, slots=True)
class Pushed:
    """Entries of a push; `payload` is the body when the store can keep it as it is."""

    table: pa.Table
    sources: tuple[Source, ...]
    payload: bytes | None


def read_push(body: bytes, content_type: str, encoding: str) -> Pushed:
    """Entries of a push of any kind. Raises BatchError naming what is wrong with it."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == CONTENT_TYPE:
        table, sources = decode(body)
        return Pushed(table, sources, body)
    if kind == "application/json":
        return Pushed(read_json(unpack(body, encoding)), (), None)
    if kind in ("application/x-protobuf", ""):
        return Pushed(decode_push(body, MOST), (), None)
    raise BatchError(
        f"Content-Type {content_type!r} is not known",
        f"send application/json, application/x-protobuf or {CONTENT_TYPE}",
    )


def unpack(body: bytes, encoding: str) -> bytes:
    """A body by its Content-Encoding, never to more than MOST bytes."""
    name = encoding.strip().lower()
    if name in ("", "identity"):
        return body
    codecs = {"gzip": cramjam.gzip, "deflate": cramjam.zlib, "snappy": cramjam.snappy}
    if name not in codecs:
        raise BatchError(f"Content-Encoding {encoding!r} is not known", "send gzip, deflate or snappy, or nothing")
    room = cramjam.Buffer()
    try:
        if name == "snappy":
            if cramjam.snappy.decompress_raw_len(body) > MOST:
                raise BatchError(f"the push unpacks to more than {MOST} bytes", "send smaller batches")
            return bytes(cramjam.snappy.decompress_raw(body))
        _bounded(name, body, room)
    except BatchError:
        raise
    except Exception as error:  # cramjam raises types of its own
        raise BatchError(f"the body is not {name}: {error}", "compress it as Content-Encoding says") from error
    room.seek(0)
    return bytes(room.read())


def _bounded(name: str, body: bytes, room: cramjam.Buffer) -> None:
    import zlib

    # zlib's own object can stop at a bound; a small body may unpack to the machine's memory otherwise.
    unpacker = zlib.decompressobj(31 if name == "gzip" else 15)
    data = unpacker.decompress(body, MOST + 1)
    if len(data) > MOST:
        raise BatchError(f"the push unpacks to more than {MOST} bytes", "send smaller batches")
    if not unpacker.eof:
        raise BatchError(f"the {name} body is cut short", "send it whole")
    room.write(data)


def read_json(body: bytes) -> pa.Table:
    """Entries of Loki's JSON push: {"streams": [{"stream": {…}, "values": [["<ns>", "<line>", {…}?], …]}]}."""
    try:
        data = orjson.loads(body)
        streams = data["streams"]
        if not isinstance(streams, list):
            raise TypeError("streams is not a list")
    except (orjson.JSONDecodeError, KeyError, TypeError) as error:
        raise BatchError(
            f"not a JSON push: {error}", 'send {"streams": [{"stream": {…}, "values": [["<ns>", "<line>"]]}]}'
        ) from error
    ts: list[int] = []
    indices: list[int] = []
    lines: list[str] = []
    metadata: list[list[tuple[str, str]] | None] = []
    texts: dict[str, int] = {}
    for number, stream in enumerate(streams):
        try:
            labels = stream["stream"] if "stream" in stream else parse_label_text(stream["labels"])
            text = canonical({str(k): _text(v) for k, v in labels.items()})
            index = texts.setdefault(text, len(texts))
            for value in stream["values"]:
                ts.append(int(value[0]))
                lines.append(_text(value[1]))
                extra = value[2] if len(value) > 2 else None
                metadata.append([(str(k), _text(v)) for k, v in extra.items()] if extra else None)
                indices.append(index)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            at = f"entry {len(lines) - 1 if len(lines) > len(indices) else len(indices)}"
            raise BatchError(
                f"stream {number}, {at}: {type(error).__name__} {error}",
                'an entry is ["<nanoseconds>", "<line>", {metadata}?]',
            ) from error
    try:
        columns = [
            pa.array(ts, pa.int64()),
            pa.DictionaryArray.from_arrays(pa.array(indices, pa.int32()), pa.array(list(texts), pa.utf8())),
            pa.array(lines, pa.utf8()),
            pa.array(metadata, METADATA),
        ]
    except (pa.ArrowException, OverflowError, UnicodeEncodeError) as error:
        raise BatchError(
            f"the push has a value that cannot be stored: {error}",
            "timestamps are nanoseconds, lines are UTF-8",
        ) from error
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is not a string")
    return value
