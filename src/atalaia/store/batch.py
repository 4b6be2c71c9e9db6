"""Entries in transit: the Arrow schema that collector, API and write-ahead log share, and its limits."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.environment.errors import InputError

METADATA = pa.map_(pa.utf8(), pa.utf8())
SCHEMA = pa.schema(
    [
        ("ts", pa.int64()),
        ("labels", pa.dictionary(pa.int32(), pa.utf8())),
        ("line", pa.utf8()),
        ("metadata", METADATA),
    ]
)
CONTENT_TYPE = "application/vnd.apache.arrow.stream"
_SOURCES_KEY = b"atalaia.sources"
_LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# One thread a batch: several batches are on their way at a time, which is enough for all cores.
_WRITTEN = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
_READ = pa.ipc.IpcReadOptions(use_threads=False)


class BatchError(InputError):
    """A batch cannot be read or breaks the schema; nothing of it was stored."""


@dataclass(frozen=True, slots=True)
class Source:
    """The bytes `start` to `end` of the source `id` (a file, as its collector names it)."""

    id: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What an entry may be. Sizes in bytes, `ahead` in nanoseconds."""

    line: int = 1 << 20
    labels: int = 30
    label_name: int = 1024
    label_value: int = 2048
    ahead: int = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Refused:
    """Entries that broke a limit; `message` names the first one and the limit."""

    count: int
    message: str


def canonical(labels: Mapping[str, str]) -> str:
    """The one spelling of a label set: JSON with sorted keys and without blanks. Empty values are no labels."""
    return orjson.dumps({k: v for k, v in labels.items() if v != ""}, option=orjson.OPT_SORT_KEYS).decode()


def encode(batch: pa.RecordBatch | pa.Table, sources: Sequence[Source] = ()) -> bytes:
    """The batch as an lz4-compressed Arrow IPC stream that carries its sources."""
    schema = batch.schema
    if sources:
        listed = orjson.dumps([[s.id, s.start, s.end] for s in sources])
        schema = schema.with_metadata({_SOURCES_KEY: listed})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, schema, options=_WRITTEN) as writer:
        if isinstance(batch, pa.Table):
            writer.write_table(batch.replace_schema_metadata(schema.metadata))
        else:
            writer.write_batch(batch.replace_schema_metadata(schema.metadata))
    return sink.getvalue()


def decode(body: bytes | memoryview) -> tuple[pa.Table, tuple[Source, ...]]:
    """The entries and sources of an Arrow IPC stream; raises BatchError when it is not one of `SCHEMA`.

    The text columns are checked to be UTF-8, since nothing behind this point checks again.
    """
    try:
        with pa.ipc.open_stream(pa.py_buffer(body), options=_READ) as reader:
            table = reader.read_all()
        kept = (table.schema.metadata or {}).get(_SOURCES_KEY)
        sources = tuple(Source(str(i), int(s), int(e)) for i, s, e in orjson.loads(kept)) if kept else ()
        if any(not 0 <= s.start <= s.end < 2**63 for s in sources):
            raise ValueError("a source's bytes do not go from its start to its end")
        if "metadata" not in table.column_names:
            table = table.append_column("metadata", pa.nulls(len(table), METADATA))
        table = table.select(SCHEMA.names).replace_schema_metadata(None).cast(SCHEMA)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise BatchError(f"not a batch of log entries: {error}", "see docs/store-format.md for the schema") from error
    nulls = sum(table.column(name).null_count for name in ("ts", "labels", "line"))
    if nulls or any(chunk.dictionary.null_count for chunk in table.column("labels").chunks):
        raise BatchError("a batch has entries without ts, labels or line", "only metadata may be null")
    if not unambiguous(table.column("metadata")):
        raise BatchError("an entry's metadata has a key twice or a key without a value", "send each key once")
    return table, sources


def unambiguous(metadata: pa.ChunkedArray) -> bool:
    """Whether all keys have a value and no entry has a key twice; DuckDB cannot read such an entry."""
    return all(_unambiguous(chunk) for chunk in metadata.chunks)


def _unambiguous(chunk: pa.MapArray) -> bool:
    # The entries' pairs are those between their offsets, in a slice too.
    offsets = chunk.offsets.to_numpy()
    first, count = int(offsets[0]), int(offsets[-1] - offsets[0])
    keys, values = chunk.keys.slice(first, count), chunk.items.slice(first, count)
    if keys.null_count or values.null_count:
        return False
    codes = keys.dictionary_encode()
    entry = np.repeat(np.arange(len(chunk)), np.diff(offsets))
    pairs = entry * np.int64(len(codes.dictionary)) + codes.indices.to_numpy()
    return len(np.unique(pairs)) == count


def check_labels(text: str, limits: Limits) -> str | None:
    """What is wrong with a canonical label set, or None."""
    try:
        labels = orjson.loads(text)
    except orjson.JSONDecodeError:
        labels = None
    if not isinstance(labels, dict) or not all(isinstance(v, str) for v in labels.values()):
        return f"labels {text[:100]!r} are not a JSON object of strings"
    if canonical(labels) != text:
        return f"labels {text[:100]} are not written with sorted keys and without blanks, doubles and empty values"
    if not labels:
        return "a stream needs at least one label"
    if len(labels) > limits.labels:
        return f"stream {text[:100]} has {len(labels)} labels; the limit is {limits.labels}"
    for name, value in labels.items():
        if len(name) > limits.label_name or not _LABEL_NAME.fullmatch(name):
            return f"label name {name[:100]!r} is not letters, digits and _ (at most {limits.label_name})"
        if len(value) > limits.label_value:
            return f"label {name} is {len(value)} characters long; the limit is {limits.label_value}"
    return None


def keep_valid(table: pa.Table, limits: Limits) -> tuple[pa.Table, Refused | None]:
    """The entries that keep the limits, and what was refused of the others."""
    table = table.combine_chunks().unify_dictionaries()
    if not len(table):
        return table, None
    labels = table.column("labels").chunk(0)
    faults = [check_labels(text, limits) for text in labels.dictionary.to_pylist()]
    # Chunks, since a column of them is copied on its way to NumPy.
    ts = table.column("ts").chunk(0).to_numpy()
    size = pc.binary_length(table.column("line").chunk(0)).to_numpy()
    latest = time.time_ns() + limits.ahead
    bad_labels = np.array([fault is not None for fault in faults], bool)[labels.indices.to_numpy()]
    bad = bad_labels | (ts < 0) | (ts > latest) | (size > limits.line)
    if not bad.any():
        return table, None
    first = int(np.flatnonzero(bad)[0])
    if bad_labels[first]:
        why = faults[labels.indices[first].as_py()] or ""
    elif size[first] > limits.line:
        why = f"its line is {size[first]} bytes long; the limit is {limits.line}"
    else:
        why = f"its timestamp {ts[first]} is not between 1970 and a day ahead of the store's clock"
    entry = f"entry {first} at {ts[first]}" if not bad_labels[first] else f"entry {first}"
    return table.filter(pa.array(~bad)), Refused(int(bad.sum()), f"{entry}: {why}")
