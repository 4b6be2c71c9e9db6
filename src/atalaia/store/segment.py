"""Segments: immutable Parquet files of entries. This writes those of level 0, a memory table each, and reads all."""

from __future__ import annotations

import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atalaia.environment.state import sync_directory
from atalaia.store import metadata
from atalaia.store.held import MOST, Held
from atalaia.store.memory import SCHEMA
from atalaia.store.streams import Streams

ROW_GROUP_BYTES = 16 << 20
LABELS = pa.dictionary(pa.int32(), pa.utf8())
_DICTIONARIES = ["stream_id", "labels", "template", "block", "metadata.key_value.key", "metadata.key_value.value"]


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment's catalogue row. Sizes in bytes, times in ns since 1970 (both ends included).

    `index_size` is 0 for no index; `keys` are the metadata keys with a column of their own; `purged` is the last
    deletion that was applied.
    """

    name: str
    level: int
    rows: int
    size: int
    line_bytes: int
    min_ts: int
    max_ts: int
    first_seq: int
    last_seq: int
    crc32: int
    index_size: int = 0
    index_crc32: int = 0
    keys: tuple[str, ...] = ()
    purged: int = 0

    @property
    def number(self) -> int:
        """The number in its name, which no other segment ever had."""
        return int(self.name.removesuffix(".parquet").rpartition("-")[2])


@dataclass(frozen=True, slots=True)
class Made:
    """A segment whose file is written, and what it has of each stream (None: too many streams)."""

    segment: Segment
    held: Held | None


class FileSink:
    """A file for pyarrow, or anybody, that sums up a CRC of what passes; durable under its name once `finish`ed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f"{path.name}.partial")
        self._descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        self.crc = 0
        self.size = 0
        self.closed = False

    def write(self, data: pa.Buffer | bytes) -> int:
        """All of `data`. Raises OSError."""
        view = memoryview(data)
        self.crc = zlib.crc32(view, self.crc)
        self.size += len(view)
        left = view
        while left:
            left = left[os.write(self._descriptor, left) :]
        return len(view)

    def tell(self) -> int:
        """Bytes so far."""
        return self.size

    def flush(self) -> None:
        """Make what was written durable."""
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Release the descriptor."""
        if not self.closed:
            self.closed = True
            os.close(self._descriptor)

    def finish(self) -> None:
        """Make the file exist under its name, durably."""
        self.flush()
        self.close()
        self._partial.replace(self._path)
        sync_directory(self._path.parent)

    def discard(self) -> None:
        """Take back what was written."""
        self.close()
        self._partial.unlink(missing_ok=True)

    def writable(self) -> bool:
        """For pyarrow."""
        return True

    def readable(self) -> bool:
        """For pyarrow."""
        return False

    def seekable(self) -> bool:
        """For pyarrow."""
        return False


def name_of(first_ts: int, number: int) -> str:
    """The file name of a segment."""
    return f"{max(0, first_ts):020d}-{number:016d}.parquet"


def write(batches: Sequence[pa.RecordBatch], streams: Streams, number: int, folder: Path) -> Made:
    """Write the entries, sorted by (ts, seq), durably below `folder`. Raises OSError; then nothing is left behind.

    The segment does not exist until the catalogue says so.
    """
    table = in_order(pa.Table.from_batches(batches, SCHEMA))
    ts, seq = table.column("ts").to_numpy(), table.column("seq").to_numpy()
    sizes = pc.binary_length(table.column("line")).to_numpy()
    line_bytes = int(sizes.sum())
    name = name_of(int(ts[0]), number)
    rows = max(1024, int(len(table) * ROW_GROUP_BYTES / max(1, line_bytes)))
    schema = table.schema.insert(3, pa.field("labels", LABELS))
    groups = (_with_labels(table.slice(at, rows), streams) for at in range(0, len(table), rows))
    size, crc = write_groups(groups, schema, folder / name)
    held = held_of(table, sizes)
    return Made(
        Segment(name, 0, len(table), size, line_bytes, int(ts[0]), int(ts[-1]), int(seq.min()), int(seq.max()), crc),
        held,
    )


def held_of(table: pa.Table, line_sizes: np.ndarray) -> Held | None:
    """What entries have of each stream; None when they are of too many."""
    found = Held.of(table.column("stream_id").to_numpy(), table.column("ts").to_numpy(), line_sizes)
    return found if len(found) <= MOST else None


def write_groups(
    groups: Iterable[pa.Table],
    schema: pa.Schema,
    path: Path,
    level: Mapping[str, int] | None = None,
    lines: str = "PLAIN",
) -> tuple[int, int]:
    """Write tables as the row groups of a segment's file, durably; its size and CRC-32.

    `level` is zstd's by column, None for LZ4; `lines` the encoding of lines. Raises OSError, or what `groups`
    raises; then nothing is left behind.
    """
    sink = FileSink(path)
    try:
        with pq.ParquetWriter(
            pa.PythonFile(sink, "w"),
            schema,
            compression="lz4" if level is None else "zstd",
            compression_level=level,
            use_dictionary=[*_DICTIONARIES, *(n for n in schema.names if n.startswith(metadata.PREFIX))],
            column_encoding={"ts": "DELTA_BINARY_PACKED", "seq": "DELTA_BINARY_PACKED", "line": lines},
            write_statistics=["ts", "seq", "stream_id", "block"],
            write_page_checksum=True,
            data_page_size=1 << 20,
            store_schema=False,
        ) as writer:
            for group in groups:
                writer.write_table(group, row_group_size=max(1, len(group)))
        sink.finish()
    except BaseException:
        sink.discard()
        raise
    return sink.size, sink.crc


def in_order(table: pa.Table) -> pa.Table:
    """Entries by (ts, seq); often nothing is to do."""
    ts, seq = table.column("ts").to_numpy(), table.column("seq").to_numpy()
    steps, later = np.diff(ts), np.diff(seq) > 0
    if bool(((steps > 0) | ((steps == 0) & later)).all()):
        return table
    return table.combine_chunks().take(pa.array(np.lexsort((seq, ts))))


def labels_of(ids: pa.Array, streams: Streams) -> pa.DictionaryArray:
    """The labels of stream numbers, as JSON."""
    codes = ids.dictionary_encode()
    texts = pa.array([streams[number].text for number in codes.dictionary.to_pylist()], pa.utf8())
    return pa.DictionaryArray.from_arrays(codes.indices, texts)


def _with_labels(table: pa.Table, streams: Streams) -> pa.Table:
    return table.add_column(3, "labels", labels_of(table.column("stream_id").combine_chunks(), streams))


def entries(group: pa.Table, keys: Sequence[str]) -> pa.Table:
    """Rows of a segment's file -> entries of memory.SCHEMA; `keys` are those with a column of their own."""
    whole = group.combine_chunks()
    columns = {field.name: whole.column(field.name).combine_chunks() for field in SCHEMA}
    if keys:
        own = {key: whole.column(metadata.PREFIX + key).combine_chunks() for key in keys}
        columns["metadata"] = metadata.join(columns["metadata"], own)
    return pa.Table.from_arrays([columns[field.name].cast(field.type) for field in SCHEMA], schema=SCHEMA)


def read(path: Path, keys: Sequence[str], groups: Sequence[int] | None = None) -> Iterator[pa.Table]:
    """The entries of a segment's row groups, in the order of the file, page checksums verified.

    Raises OSError and what pyarrow raises for a damaged file.
    """
    wanted = [*SCHEMA.names, *(metadata.PREFIX + key for key in keys)]
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        for number in range(file.num_row_groups) if groups is None else groups:
            yield entries(file.read_row_group(number, columns=wanted), keys)
