"""Compaction: several segments become fewer, larger ones, in bands in which like stands beside like, with an index.

docs/store-format.md says what the files look like. Memory is bounded by the row groups that overlap in time, not by
the segments' size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atalaia.store import metadata, segment
from atalaia.store.band import Layout, groups
from atalaia.store.held import MOST, Held
from atalaia.store.index import encode
from atalaia.store.segment import Made, Segment
from atalaia.store.streams import Streams

SEGMENT_BYTES = 256 << 20
"""Bytes of lines after which an output ends with its band."""
BAND_BYTES = 16 << 20
_LEVELS = {"line": 12, "ts": 9}


@dataclass(frozen=True, slots=True)
class _Unit:
    """Row groups of an input that are read together."""

    path: Path
    keys: tuple[str, ...]
    groups: tuple[int, ...]
    min_ts: int


Drop = Callable[[pa.Table], pa.Table]


def compact(
    inputs: Sequence[Segment],
    folder: Path,
    streams: Streams,
    next_number: Callable[[], int],
    drop: Drop | None = None,
    purged: int = 0,
) -> list[Made]:
    """Write the entries of `inputs` that `drop` leaves as segments of level 1; none when nothing is left.

    Their files are durable, but they exist only once the catalogue says so. Raises OSError and what pyarrow raises for
    a damaged input; what was written by then is removed.
    """
    made: list[Made] = []
    bands = _bands(merged(inputs, folder, drop))
    try:
        while (first := next(bands, None)) is not None:
            made.append(_output(first, bands, folder, streams, next_number(), purged))
    except BaseException:
        for one in made:
            remove(folder, one.segment)
        raise
    return made


def remove(folder: Path, found: Segment) -> None:
    """Remove the files of a segment that does not exist any more, or never came to."""
    (folder / found.name).unlink(missing_ok=True)
    index_path(folder, found).unlink(missing_ok=True)


def index_path(folder: Path, found: Segment) -> Path:
    """Where a segment's index is."""
    return (folder / found.name).with_suffix(".index")


def merged(inputs: Sequence[Segment], folder: Path, drop: Drop | None = None) -> Iterator[pa.Table]:
    """All entries of the inputs in the order of (ts, seq), in tables of any size."""
    units = sorted((unit for found in inputs for unit in _units(folder / found.name, found)), key=lambda u: u.min_ts)
    waiting: list[pa.Table] = []
    for number, unit in enumerate(units):
        for table in segment.read(unit.path, unit.keys, unit.groups):
            waiting.append(drop(table) if drop else table)
        if number + 1 == len(units):
            break
        # What is older than all that is still to be read has its place.
        edge = units[number + 1].min_ts
        if min((pc.min(t.column("ts")).as_py() for t in waiting if len(t)), default=edge) < edge:
            table = segment.in_order(pa.concat_tables(waiting))
            ready = int(np.searchsorted(table.column("ts").to_numpy(), edge))
            yield table.slice(0, ready)
            waiting = [table.slice(ready)]
    if waiting:
        yield segment.in_order(pa.concat_tables(waiting))


def _units(path: Path, found: Segment) -> Iterator[_Unit]:
    """Row groups that overlap in time are read together: the bands of level 1, single groups of level 0."""
    with pq.ParquetFile(path) as file:
        footer = file.metadata
        column = file.schema_arrow.names.index("ts")
        ranges = []
        for number in range(footer.num_row_groups):
            statistics = footer.row_group(number).column(column).statistics
            ranges.append((statistics.min, statistics.max))
    run: list[int] = []
    low = high = 0
    for number, (first, last) in enumerate(ranges):
        if run and first > high:
            yield _Unit(path, found.keys, tuple(run), low)
            run = []
        low, high = (min(low, first), max(high, last)) if run else (first, last)
        run.append(number)
    if run:
        yield _Unit(path, found.keys, tuple(run), low)


def _bands(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same entries in tables of about BAND_BYTES of lines."""
    waiting: list[pa.Table] = []
    size = 0
    for table in tables:
        while len(table):
            ends = np.cumsum(pc.binary_length(table.column("line")).to_numpy(), dtype=np.int64)
            if size + ends[-1] < BAND_BYTES:
                waiting.append(table)
                size += int(ends[-1])
                break
            cut = int(np.searchsorted(ends, BAND_BYTES - size)) + 1
            yield pa.concat_tables([*waiting, table.slice(0, cut)]).combine_chunks()
            waiting, size, table = [], 0, table.slice(cut)
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()


class _Summary:
    """What is learned of a segment while it is written."""

    def __init__(self) -> None:
        self.rows = self.line_bytes = self.bands = 0
        self.min_ts = self.first_seq = 2**63 - 1
        self.max_ts = self.last_seq = 0
        self.held: Held | None = None
        self.many = False

    def add(self, table: pa.Table) -> None:
        """Count a band."""
        ts, seq = table.column("ts").to_numpy(), table.column("seq").to_numpy()
        sizes = pc.binary_length(table.column("line")).to_numpy()
        self.bands += 1
        self.rows += len(table)
        self.line_bytes += int(sizes.sum())
        self.min_ts, self.max_ts = min(self.min_ts, int(ts[0])), max(self.max_ts, int(ts[-1]))
        self.first_seq, self.last_seq = min(self.first_seq, int(seq.min())), max(self.last_seq, int(seq.max()))
        if not self.many:
            found = Held.of(table.column("stream_id").to_numpy(), ts, sizes)
            self.held = found if self.held is None else Held.union([self.held, found])
            self.many = len(self.held) > MOST


def _output(
    first: pa.Table, bands: Iterator[pa.Table], folder: Path, streams: Streams, number: int, purged: int
) -> Made:
    """Write one segment of level 1: `first`, and as many more bands as it takes."""
    keys = metadata.frequent_keys(first.column("metadata").combine_chunks())
    layout = Layout(number, keys, streams)
    path = folder / segment.name_of(int(first.column("ts")[0].as_py()), number)
    learned = _Summary()

    def row_groups() -> Iterator[pa.Table]:
        table: pa.Table | None = first
        while table is not None:
            learned.add(table)
            yield from groups(table, learned.bands - 1, layout)
            table = next(bands, None) if learned.line_bytes < SEGMENT_BYTES else None

    size, crc = segment.write_groups(row_groups(), layout.schema, path, _LEVELS, "DELTA_BYTE_ARRAY")
    try:
        index_size, index_crc = _write_index(layout, path.with_suffix(".index"))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    written = Segment(
        path.name, 1, learned.rows, size, learned.line_bytes, learned.min_ts, learned.max_ts, learned.first_seq,
        learned.last_seq, crc, index_size, index_crc, keys, purged,
    )  # fmt: skip
    return Made(written, None if learned.many else learned.held)


def _write_index(layout: Layout, path: Path) -> tuple[int, int]:
    sink = segment.FileSink(path)
    try:
        sink.write(encode(layout.groups, {text: "".join(sorted(held)) for text, held in layout.templates.items()}))
        sink.finish()
    except BaseException:
        sink.discard()
        raise
    return sink.size, sink.crc
