"""Entries in transit: the Arrow schema that collector, API and write-ahead log share, and its limits."""

from __future__ import annotations

import io
import re
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.environment.errors import InputError
from atalaia.store.ipc import unpacked_size

METADATA = pa.map_(pa.utf8(), pa.utf8())
SCHEMA = pa.schema(
    [
        ("ts", pa.int64()),
        ("labels", pa.dictionary(pa.int32(), pa.utf8())),
        ("line", pa.utf8()),
        ("metadata", METADATA),
    ]
)
MOST = 256 << 20  # bytes of a batch, unpacked
CONTENT_TYPE = "application/vnd.apache.arrow.stream"
_SOURCES_KEY = b"atalaia.sources"
_TEXT = (pa.utf8(), pa.large_utf8())
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
    metadata: int = 64 << 10
    metadata_keys: int = 128
    ahead: int = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Refused:
    """Entries that broke a limit; `message` names the first one and the limit, `reasons` counts them by limit."""

    count: int
    message: str
    reasons: Mapping[str, int] = field(default_factory=dict)


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


def decode(body: bytes | memoryview, most: int | None = MOST) -> tuple[pa.Table, tuple[Source, ...]]:
    """The entries and sources of an Arrow IPC stream; raises BatchError when it is not one of `SCHEMA`.

    One that would need more than `most` bytes is refused before it is unpacked; None: it was taken once already.
    The text columns are checked to be UTF-8, since nothing behind this point checks again.
    """
    try:
        if most is not None and (size := unpacked_size(body)) > most:
            raise BatchError(f"the batch unpacks to {size} bytes; the limit is {most}", "send smaller batches")
        with pa.ipc.open_stream(pa.py_buffer(body), options=_READ) as reader:
            if most is not None:
                _check_types(reader.schema)
            table = reader.read_all()
        # Before anything else looks at it: offsets and lengths may be any.
        table.validate(full=True)
        kept = (table.schema.metadata or {}).get(_SOURCES_KEY)
        sources = tuple(Source(str(i), int(s), int(e)) for i, s, e in orjson.loads(kept)) if kept else ()
        if any(not 0 <= s.start <= s.end < 2**63 for s in sources):
            raise ValueError("a source's bytes do not go from its start to its end")
        if "metadata" not in table.column_names:
            table = table.append_column("metadata", pa.nulls(len(table), METADATA))
        table = table.select(SCHEMA.names).replace_schema_metadata(None).cast(SCHEMA)
    except (pa.ArrowException, struct.error, OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise BatchError(f"not a batch of log entries: {error}", "see docs/store-format.md for the schema") from error
    nulls = sum(table.column(name).null_count for name in ("ts", "labels", "line"))
    if nulls or any(chunk.dictionary.null_count for chunk in table.column("labels").chunks):
        raise BatchError("a batch has entries without ts, labels or line", "only metadata may be null")
    if not unambiguous(table.column("metadata")):
        raise BatchError("an entry's metadata has a key twice or a key without a value", "send each key once")
    return table, sources


def _check_types(schema: pa.Schema) -> None:
    """Raises ValueError unless each column has the type of `SCHEMA` or one that takes about as much room."""
    for column in schema:
        if column.name in SCHEMA.names and not _is_bounded(column):
            raise ValueError(f"column {column.name} is {column.type}, not {SCHEMA.field(column.name).type}")


def _is_bounded(column: pa.Field) -> bool:
    kind = column.type
    if column.name == "ts":
        return bool(kind == pa.int64())
    if column.name == "metadata":
        return pa.types.is_null(kind) or (pa.types.is_map(kind) and kind.key_type in _TEXT and kind.item_type in _TEXT)
    return kind in _TEXT or (column.name == "labels" and pa.types.is_dictionary(kind) and kind.value_type in _TEXT)


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
            return f"label name {name[:100]!r} is not letters, digits and _ (at most {limits.label_name} bytes)"
        if (size := len(value.encode())) > limits.label_value:
            return f"label {name} is {size} bytes long; the limit is {limits.label_value}"
    return None


def keep_valid(table: pa.Table, limits: Limits) -> tuple[pa.Table, Refused | None]:
    """The entries that keep the limits, and what was refused of the others."""
    table = table.combine_chunks().unify_dictionaries()
    if not len(table):
        return table, None
    labels = table.column("labels").chunk(0)
    faults = [check_labels(text, limits) for text in labels.dictionary.to_pylist()]
    bad_labels = np.array([fault is not None for fault in faults], bool)[labels.indices.to_numpy()]
    # Chunks, since a column of them is copied on its way to NumPy.
    ts = table.column("ts").chunk(0).to_numpy()
    size = pc.binary_length(table.column("line").chunk(0)).to_numpy()
    pairs, pair_bytes = _metadata_sizes(table.column("metadata").chunk(0))
    checks: list[tuple[str, np.ndarray, Callable[[int], str]]] = [
        ("invalid_labels", bad_labels, lambda i: faults[labels.indices[i].as_py()] or ""),
        (
            "line_too_long",
            size > limits.line,
            lambda i: f"its line is {size[i]} bytes long; the limit is {limits.line}",
        ),
        (
            "structured_metadata_too_many",
            pairs > limits.metadata_keys,
            lambda i: f"its metadata has {pairs[i]} keys; the limit is {limits.metadata_keys}",
        ),
        (
            "structured_metadata_too_large",
            pair_bytes > limits.metadata,
            lambda i: f"its metadata has {pair_bytes[i]} bytes of keys and values; the limit is {limits.metadata}",
        ),
        (
            "time_out_of_range",
            (ts < 0) | (ts > time.time_ns() + limits.ahead),
            lambda _: f"its time is not between 1970 and {limits.ahead / 1e9:g} s ahead of the store's clock",
        ),
    ]
    bad = np.logical_or.reduce([wrong for _, wrong, _ in checks])
    if not bad.any():
        return table, None
    first = int(bad.argmax())
    why = next(tell(first) for _, wrong, tell in checks if wrong[first])
    # An entry that breaks several limits counts for the first.
    reasons = np.select([wrong for _, wrong, _ in checks], list(range(len(checks))), -1)[bad]
    counts = {reason: int((reasons == number).sum()) for number, (reason, _, _) in enumerate(checks)}
    refused = Refused(
        int(bad.sum()), f"entry {first} at {ts[first]}: {why}", {reason: n for reason, n in counts.items() if n}
    )
    return table.filter(pa.array(~bad)), refused


def _metadata_sizes(metadata: pa.MapArray) -> tuple[np.ndarray, np.ndarray]:
    """How many keys each entry has, and the bytes of its keys and values together."""
    offsets = metadata.offsets.to_numpy()
    # A text begins where its offset says, so that an entry's bytes are a difference of two: no pair is looked at.
    starts = [
        np.frombuffer(texts.buffers()[1], np.int32)[texts.offset :][offsets]
        for texts in (metadata.keys, metadata.items)
        if len(texts)
    ]
    return np.diff(offsets), np.diff(sum(starts, np.zeros(len(offsets), np.int64)))
