"""What is wrong with one file of a store: its checksum, and whether it says what the catalogue says of it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atalaia.store import segment
from atalaia.store.held import Held
from atalaia.store.index import MOST_STREAMS
from atalaia.store.segment import Made, Segment

UNREADABLE = (OSError, pa.ArrowException, ValueError, KeyError, IndexError, OverflowError, MemoryError)
"""What reading a damaged Parquet or Arrow file raises."""
_BLOCK = 4 << 20


def crc_problem(path: Path, size: int, crc: int) -> str | None:
    """How a file differs from the size and the CRC-32 that the catalogue has of it. Raises OSError."""
    found = length = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            found = zlib.crc32(block, found)
            length += len(block)
    if length != size:
        return f"it has {length} bytes; the catalogue says {size}"
    return None if found == crc else "its CRC-32 is not the catalogue's"


@dataclass(frozen=True, slots=True)
class Group:
    """A row group as read: its entries (memory.SCHEMA), the templates of its lines; or what is wrong with it.

    `rows` and the times (ns) are the footer's.
    """

    number: int
    rows: int
    min_ts: int
    max_ts: int
    entries: pa.Table | None = None
    templates: frozenset[str] | None = None
    problem: str = ""


def groups(path: Path, found: Segment, labels: Mapping[int, str]) -> Iterator[Group]:
    """All row groups of a segment, read as a whole, page checksums verified. Raises UNREADABLE for a damaged footer."""
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        at = file.schema_arrow.names.index("ts")
        for number in range(file.num_row_groups):
            footer = file.metadata.row_group(number)
            statistics = footer.column(at).statistics
            known = number, footer.num_rows, statistics.min, statistics.max
            try:
                table = file.read_row_group(number)
                table.validate(full=True)
                entries = segment.entries(table, found.keys)
                if problem := _implausible(table, entries, found, number, labels):
                    yield Group(*known, problem=problem)
                    continue
                templates = _texts(table.column("template")) if found.level else None
            except UNREADABLE as error:
                yield Group(*known, problem=str(error).splitlines()[0])
                continue
            yield Group(*known, entries, templates)


def _texts(column: pa.ChunkedArray) -> frozenset[str] | None:
    return None if column.null_count else frozenset(pc.unique(column.cast(pa.utf8())).to_pylist())


def _implausible(table: pa.Table, entries: pa.Table, found: Segment, number: int, labels: Mapping[int, str]) -> str:
    """What cannot be in a row group of this segment; empty for nothing."""
    for name, low, high in (("ts", found.min_ts, found.max_ts), ("seq", found.first_seq, found.last_seq)):
        values = entries.column(name).to_numpy()
        if values.min() < low or values.max() > high:
            return f"its {name} are not between {low} and {high}, as the catalogue says"
    if found.level and pc.unique(table.column("block")).to_pylist() != [(found.number << 20) + number]:
        return "its block is not its place in the file"
    pairs = table.select(["stream_id", "labels"]).group_by(["stream_id", "labels"]).aggregate([])
    for pair in pairs.to_pylist():
        if labels.get(pair["stream_id"]) != pair["labels"]:
            return f"the labels of its stream {pair['stream_id']} are not the catalogue's"
    return ""


def segment_problems(path: Path, made: Made, labels: Mapping[int, str]) -> tuple[list[str], list[dict[str, Any]]]:
    """What is wrong with a segment's file, and what its index has to say. Raises FileNotFoundError."""
    found = made.segment
    damaged = crc_problem(path, found.size, found.crc32)
    problems = [damaged] if damaged else []
    expected: list[dict[str, Any]] = []
    seen = _Seen()
    bad = 0
    try:
        for group in groups(path, found, labels):
            if group.entries is None:
                problems.append(f"row group {group.number} ({group.rows} rows): {group.problem}")
                bad += 1
                continue
            sizes = pc.binary_length(group.entries.column("line")).to_numpy()
            here = Held.of(group.entries.column("stream_id").to_numpy(), group.entries.column("ts").to_numpy(), sizes)
            seen.add(group.entries, int(sizes.sum()), here if made.held is not None else None)
            expected.append(_index_row(group, here))
    except UNREADABLE as error:
        return [*problems, f"it cannot be read: {str(error).splitlines()[0]}"], []
    if not bad:
        problems += [
            f"its {name} is {getattr(seen, name)}; the catalogue says {getattr(found, name)}"
            for name in _FACTS
            if getattr(seen, name) != getattr(found, name)
        ]
        if made.held is not None and (seen.held is None or seen.held.encode() != made.held.encode()):
            problems.append("its streams are not what the catalogue says")
    return problems, [] if bad else expected


_FACTS = ("rows", "line_bytes", "min_ts", "max_ts", "first_seq", "last_seq")


@dataclass(slots=True)
class _Seen:
    """What the row groups of a segment have together; the names are those of its row in the catalogue."""

    rows: int = 0
    line_bytes: int = 0
    min_ts: int = 2**63 - 1
    max_ts: int = 0
    first_seq: int = 2**63 - 1
    last_seq: int = 0
    held: Held | None = None

    def add(self, entries: pa.Table, line_bytes: int, held: Held | None) -> None:
        """Count a row group."""
        ts, seq = pc.min_max(entries.column("ts")).as_py(), pc.min_max(entries.column("seq")).as_py()
        self.rows += len(entries)
        self.line_bytes += line_bytes
        self.min_ts, self.max_ts = min(self.min_ts, ts["min"]), max(self.max_ts, ts["max"])
        self.first_seq, self.last_seq = min(self.first_seq, seq["min"]), max(self.last_seq, seq["max"])
        if held is not None:
            self.held = held if self.held is None else Held.union([self.held, held])


def _index_row(group: Group, held: Held) -> dict[str, Any]:
    return {
        "rows": len(group.entries or ()),
        "min_ts": int(held.min_ts.min()),
        "max_ts": int(held.max_ts.max()),
        "streams": held.streams.tolist() if len(held) <= MOST_STREAMS else None,
        "templates": group.templates,
    }


def index_problems(path: Path, found: Segment, expected: list[dict[str, Any]]) -> list[str]:
    """What is wrong with a segment's index; `expected` has what it must say, empty when that is not known.

    Raises FileNotFoundError.
    """
    if damaged := crc_problem(path, found.index_size, found.index_crc32):
        return [damaged]
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            texts = [text for text, _ in orjson.loads((reader.schema.metadata or {})[b"templates"])]
            rows = reader.read_all().to_pylist()
    except UNREADABLE as error:
        return [f"it cannot be read: {str(error).splitlines()[0]}"]
    for row in rows:
        row["templates"] = None if row["templates"] is None else frozenset(texts[i] for i in row["templates"])
    if expected and len(rows) != len(expected):
        return [f"it tells of {len(rows)} row groups, and the segment has {len(expected)}"]
    return [
        f"what it says of row group {number} ({key}) is not what is there"
        for number, (row, needed) in enumerate(zip(rows, expected, strict=False))
        for key in needed
        if row[key] != needed[key]
    ][:1]


