"""The bodies of pushes: Arrow, protobuf and JSON, plain or compressed, as a table of entries."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass

import cramjam
import pyarrow as pa

from atalaia.store.batch import (
    CONTENT_TYPE,
    METADATA,
    MOST,
    BatchError,
    Source,
    decode,
    unambiguous,
)
from atalaia.wire.protobuf import decode_push
from atalaia.wire.push_json import read_json

_STREAMED = ("zstd", "lz4")  # what pyarrow unpacks piece by piece


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
    codecs = ("gzip", "deflate", "snappy")
    if name not in codecs and name not in _STREAMED:
        raise BatchError(
            f"Content-Encoding {encoding[:100]!r} is not known", "send gzip, deflate, zstd, lz4 or snappy, or nothing"
        )
    try:
        if name in _STREAMED:
            with pa.CompressedInputStream(pa.BufferReader(body), name) as unpacker:
                return _bounded(unpacker.read(MOST + 1))
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
    return _bounded(found)


def _bounded(found: bytes) -> bytes:
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
