"""The bodies of pushes: Arrow, protobuf and JSON, plain or compressed, as a table of entries."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from dataclasses import dataclass
from typing import Any

import cramjam
import orjson
import pyarrow as pa

from atalaia.api.labels import stream_text
from atalaia.api.protobuf import decode_push
from atalaia.store.batch import (
    CONTENT_TYPE,
    METADATA,
    MOST,
    SCHEMA,
    BatchError,
    Source,
    canonical,
    decode,
    unambiguous,
)

_NANOSECONDS = re.compile(r"-?[0-9]{1,20}")


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
        plain = unpack(body, encoding)
        table, sources = decode(plain)
        return Pushed(table, sources, plain)
    if kind == "application/json":
        return Pushed(read_json(unpack(body, encoding)), (), None)
    if kind in ("application/x-protobuf", ""):
        # The protobuf push is snappy by itself; another encoding is around that.
        packed = body if encoding.strip().lower() == "snappy" else unpack(body, encoding)
        return Pushed(with_unique_keys(decode_push(packed, MOST)), (), None)
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
    try:
        if name != "snappy":
            return _inflate(body, name)
        if cramjam.snappy.decompress_raw_len(body) > MOST:
            raise BatchError(f"the push unpacks to more than {MOST} bytes", "send smaller batches")
        return bytes(cramjam.snappy.decompress_raw(body))
    except BatchError:
        raise
    except Exception as error:  # cramjam raises types of its own
        raise BatchError(f"the body is not {name}: {error}", "compress it as Content-Encoding says") from error


def _inflate(body: bytes, name: str) -> bytes:
    """gzip, of several members too, or deflate, with zlib's header or without, as clients disagree about it."""
    # Python's own objects can stop at a bound; a small body may unpack to the machine's memory otherwise.
    if name == "gzip":
        with gzip.GzipFile(fileobj=io.BytesIO(body)) as unpacker:
            found = unpacker.read(MOST + 1)
    else:
        has_header = len(body) > 1 and body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0
        stream = zlib.decompressobj(15 if has_header else -15)
        found = stream.decompress(body, MOST + 1)
        if not stream.eof and len(found) <= MOST:
            raise BatchError("the deflate body is cut short", "send it whole")
    if len(found) > MOST:
        raise BatchError(f"the push unpacks to more than {MOST} bytes", "send smaller batches")
    return found


def with_unique_keys(table: pa.Table) -> pa.Table:
    """The first of equal metadata keys stays, as of other labels."""
    metadata = table.column("metadata")
    if unambiguous(metadata):
        return table
    kept = [pairs and list(dict(reversed(pairs)).items())[::-1] for pairs in metadata.to_pylist()]
    return table.set_column(table.schema.get_field_index("metadata"), "metadata", pa.array(kept, METADATA))


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
        at = 0
        try:
            text = _stream(stream)
            index = texts.setdefault(text, len(texts))
            for at, value in enumerate(stream["values"]):  # noqa: B007 - an error names it
                ts.append(_timestamp(value[0]))
                lines.append(_text(value[1]))
                extra = value[2] if len(value) > 2 else None
                metadata.append([(k, _text(v)) for k, v in extra.items()] if extra else None)
                indices.append(index)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise BatchError(
                f"stream {number}, entry {at}: {_why(error)}", 'an entry is ["<nanoseconds>", "<line>", {metadata}?]'
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


def _stream(stream: Any) -> str:
    if "stream" not in stream:
        return stream_text(_text(stream["labels"]))
    return canonical({name: _text(value) for name, value in stream["stream"].items()})


def _timestamp(value: object) -> int:
    if isinstance(value, str) and _NANOSECONDS.fullmatch(value):
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63:
        return value
    raise TypeError(f"{str(value)[:100]!r} is not a time in nanoseconds")


def _why(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error} is missing"
    return "it is too short" if isinstance(error, IndexError) else str(error)


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{str(value)[:100]!r} is not a string")
    return value
