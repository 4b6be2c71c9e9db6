"""Segments: one memory table, sorted, as an immutable Parquet file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from atalaia.environment.state import sync_directory
from atalaia.store.memory import SCHEMA
from atalaia.store.streams import Streams

ROW_GROUP_BYTES = 16 << 20
_DICTIONARIES = ["stream_id", "labels", "template", "metadata.key_value.key", "metadata.key_value.value"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment's catalogue row. Sizes in bytes, times in ns since 1970 (both ends included).

    `templates` has the letters in the variable tokens of each template of its lines; empty when there are too many,
    None before it was indexed.
    """

    name: str
    rows: int
    size: int
    line_bytes: int
    min_ts: int
    max_ts: int
    first_seq: int
    last_seq: int
    crc32: int
    templates: Mapping[str, str] | None = None


class _Sink:
    """A file for pyarrow that sums up a CRC of what passes."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        self.crc = 0
        self.size = 0
        self.closed = False

    def write(self, data: pa.Buffer | bytes) -> int:
        view = memoryview(data)
        self.crc = zlib.crc32(view, self.crc)
        self.size += len(view)
        left = view
        while left:
            left = left[os.write(self._descriptor, left) :]
        return len(view)

    def tell(self) -> int:
        return self.size

    def flush(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            os.close(self._descriptor)

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False


def write(batches: Sequence[pa.RecordBatch], streams: Streams, generation: int, folder: Path) -> Segment:
    """Write the entries, sorted by (ts, seq), durably below `folder`. Raises OSError; then nothing is left behind.

    The segment does not exist until the catalogue says so.
    """
    table = _sorted(pa.Table.from_batches(batches, SCHEMA))
    ts = table.column("ts").to_numpy()
    seq = table.column("seq").to_numpy()
    line_bytes = sum(_text_bytes(chunk) for chunk in table.column("line").chunks)
    name = f"{max(0, int(ts[0])):020d}-{generation:016d}.parquet"
    rows = max(1024, int(len(table) * ROW_GROUP_BYTES / max(1, line_bytes)))
    schema = table.schema.insert(3, pa.field("labels", pa.dictionary(pa.int32(), pa.utf8())))
    groups = (_with_labels(table.slice(at, rows), streams) for at in range(0, len(table), rows))
    size, crc = write_groups(groups, schema, folder / name)
    return Segment(
        name,
        len(table),
        size,
        line_bytes,
        int(ts[0]),
        int(ts[-1]),
        int(seq.min()),
        int(seq.max()),
        crc,
    )


def write_groups(groups: Iterable[pa.Table], schema: pa.Schema, path: Path) -> tuple[int, int]:
    """Write tables as the row groups of a segment's file, durably; its size and CRC-32.

    Raises OSError, or what `groups` raises; then nothing is left behind.
    """
    partial = path.with_name(f"{path.name}.partial")
    sink = _Sink(partial)
    try:
        with pq.ParquetWriter(
            pa.PythonFile(sink, "w"),
            schema,
            compression="zstd",
            compression_level=1,
            use_dictionary=_DICTIONARIES,
            column_encoding={"ts": "DELTA_BINARY_PACKED", "seq": "DELTA_BINARY_PACKED"},
            write_statistics=["ts", "seq", "stream_id"],
            write_page_checksum=True,
            data_page_size=1 << 20,
            store_schema=False,
        ) as writer:
            for group in groups:
                writer.write_table(group, row_group_size=max(1, len(group)))
        sink.flush()
        sink.close()
        partial.replace(path)
    except BaseException:
        sink.close()
        partial.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)
    return sink.size, sink.crc


def _text_bytes(chunk: pa.Array) -> int:
    if not len(chunk):
        return 0
    offsets = np.frombuffer(chunk.buffers()[1], np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
    return int(offsets[-1]) - int(offsets[0])


def _sorted(table: pa.Table) -> pa.Table:
    """By (ts, seq). Rows arrive in the order of seq, so a stable sort by ts does it, and often nothing is to do."""
    ts = table.column("ts").to_numpy()
    if len(ts) < 2 or bool((ts[1:] >= ts[:-1]).all()):
        return table
    return table.combine_chunks().take(pa.array(np.argsort(ts, kind="stable")))


def _with_labels(table: pa.Table, streams: Streams) -> pa.Table:
    ids = table.column("stream_id").combine_chunks().dictionary_encode()
    ids = ids.chunk(0) if isinstance(ids, pa.ChunkedArray) else ids
    texts = pa.array([streams[number].text for number in ids.dictionary.to_pylist()], pa.utf8())
    return table.add_column(3, "labels", pa.DictionaryArray.from_arrays(ids.indices, texts))
