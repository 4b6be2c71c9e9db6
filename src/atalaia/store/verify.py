"""What is wrong with a segment or its index: checksums, and whether they hold what the catalogue says of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from atalaia.store import metadata, segment
from atalaia.store.held import MOST, Held
from atalaia.store.index import MOST_STREAMS
from atalaia.store.intact import crc_problem
from atalaia.store.segment import Made, Segment
from atalaia.store.streams import Streams

UNREADABLE = (OSError, pa.ArrowException, ValueError, KeyError, IndexError, OverflowError, MemoryError)
"""What reading a damaged Parquet or Arrow file raises."""
_FACTS = ("rows", "line_bytes", "min_ts", "max_ts", "first_seq", "last_seq", "keys")


@dataclass(frozen=True, slots=True)
class Group:
    """A row group as read: its entries (memory.SCHEMA), the templates of its lines, the labels of its streams.

    Without entries: what is wrong with it. `rows`, `min_ts` and `max_ts` (ns) are what the footer says; `keys` are the
    metadata keys with a column of their own.
    """

    number: int
    rows: int
    min_ts: int
    max_ts: int
    entries: pa.Table | None = None
    templates: frozenset[str] | None = None
    labels: Mapping[int, str] = field(default_factory=dict)
    keys: tuple[str, ...] = ()
    problem: str = ""


def texts_of(streams: Streams) -> dict[int, str]:
    """The labels of each stream."""
    return {stream.id: stream.text for stream in streams.since(0)}


def groups(path: Path, bounds: Segment | None = None) -> Iterator[Group]:
    """All row groups of a segment, read as a whole, page checksums verified. Raises UNREADABLE for a damaged footer.

    Page checksums do not cover all of a damaged file: its row in the catalogue gives `bounds` to what it can hold.
    """
    with pq.ParquetFile(path, page_checksum_verification=True) as file:
        names = file.schema_arrow.names
        keys = tuple(name.removeprefix(metadata.PREFIX) for name in names if name.startswith(metadata.PREFIX))
        for number in range(file.num_row_groups):
            footer = file.metadata.row_group(number)
            statistics = footer.column(names.index("ts")).statistics
            known = number, footer.num_rows, statistics.min, statistics.max
            try:
                table = file.read_row_group(number)
                table.validate(full=True)
                entries = segment.entries(table, keys)
                pairs = table.select(["stream_id", "labels"]).group_by(["stream_id", "labels"]).aggregate([])
                labels = {pair["stream_id"]: pair["labels"] for pair in pairs.to_pylist()}
                templates = _texts(table.column("template")) if "template" in names else None
                problem = _implausible(entries, bounds)
            except UNREADABLE as error:
                problem = str(error).splitlines()[0]
            yield Group(*known, problem=problem) if problem else Group(*known, entries, templates, labels, keys)


def _texts(column: pa.ChunkedArray) -> frozenset[str] | None:
    return None if column.null_count else frozenset(pc.unique(column.cast(pa.utf8())).to_pylist())


def _implausible(entries: pa.Table, bounds: Segment | None) -> str:
    """What cannot be in a row group of a segment; empty for nothing."""
    if bounds is not None:
        for name, low, high in (("ts", bounds.min_ts, bounds.max_ts), ("seq", bounds.first_seq, bounds.last_seq)):
            values = entries.column(name).to_numpy()
            if values.min() < low or values.max() > high:
                return f"a {name} in it is not between {low} and {high}"
    return ""


@dataclass(slots=True)
class Facts:
    """What row groups have together; the names are those of a segment's row in the catalogue.

    `index_rows` are what an index of them says; `held` is None beyond held.MOST streams.
    """

    rows: int = 0
    line_bytes: int = 0
    min_ts: int = 2**63 - 1
    max_ts: int = 0
    first_seq: int = 2**63 - 1
    last_seq: int = 0
    keys: tuple[str, ...] = ()
    held: Held | None = None
    labels: dict[int, str] = field(default_factory=dict)
    index_rows: list[Mapping[str, Any]] = field(default_factory=list)

    def add(self, group: Group, entries: pa.Table) -> None:
        """Count a row group."""
        ts, seq = entries.column("ts").to_numpy(), entries.column("seq").to_numpy()
        sizes = pc.binary_length(entries.column("line")).to_numpy()
        here = Held.of(entries.column("stream_id").to_numpy(), ts, sizes)
        low, high = int(ts.min()), int(ts.max())
        if self.held is not None or not self.rows:
            together = here if self.held is None else Held.union([self.held, here])
            self.held = together if len(together) <= MOST else None
        self.rows += len(entries)
        self.line_bytes += int(sizes.sum())
        self.min_ts, self.max_ts = min(self.min_ts, low), max(self.max_ts, high)
        self.first_seq, self.last_seq = min(self.first_seq, int(seq.min())), max(self.last_seq, int(seq.max()))
        self.labels.update(group.labels)
        self.keys = group.keys
        streams = here.streams.tolist() if len(here) <= MOST_STREAMS else None
        self.index_rows.append(
            {"rows": len(entries), "min_ts": low, "max_ts": high, "streams": streams, "templates": group.templates}
        )

    def row(self) -> dict[str, Any]:
        """What the catalogue's row has of it."""
        return {name: getattr(self, name) for name in _FACTS}

    def differences(self, made: Made) -> list[str]:
        """How a segment's row in the catalogue differs."""
        found = made.segment
        problems = [
            f"{name} is {value}; the catalogue says {getattr(found, name)}"
            for name, value in self.row().items()
            if value != getattr(found, name)
        ]
        ours, theirs = (held and held.encode() for held in (self.held, made.held))
        return problems if ours == theirs else [*problems, "its streams are not what the catalogue says"]


@dataclass(frozen=True, slots=True)
class Verified:
    """What is wrong with a segment's file; its facts when the file is as it was written."""

    problems: tuple[str, ...]
    facts: Facts | None = None


def verify_segment(path: Path, made: Made) -> Verified:
    """Read a segment as a whole and compare it with its row in the catalogue. Raises FileNotFoundError."""
    if problem := crc_problem(path, made.segment.size, made.segment.crc32):
        return Verified((problem, *_unreadable(path, made.segment)))
    facts = Facts()
    try:
        for group in groups(path):
            if group.entries is None:
                return Verified((f"row group {group.number} ({group.rows} entries): {group.problem}",))
            facts.add(group, group.entries)
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        return Verified((f"it cannot be read: {str(error).splitlines()[0]}",))
    return Verified(tuple(facts.differences(made)), facts)


def _unreadable(path: Path, found: Segment) -> list[str]:
    """Which row groups of a damaged file cannot be read."""
    try:
        return [
            f"row group {group.number} ({group.rows} entries): {group.problem}"
            for group in groups(path, found)
            if group.entries is None
        ]
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        return [f"it cannot be read: {str(error).splitlines()[0]}"]


def verify_index(path: Path, found: Segment, facts: Facts | None) -> str | None:
    """What is wrong with a segment's index, where the segment's facts are known. Raises FileNotFoundError."""
    return crc_problem(path, found.index_size, found.index_crc32) or index_problem(path, facts)


def index_problem(path: Path, facts: Facts | None) -> str | None:
    """How an index differs from the segment's facts, as far as they are known. Raises FileNotFoundError."""
    try:
        with pa.OSFile(str(path)) as file, pa.ipc.open_file(file) as reader:
            texts = [text for text, _ in orjson.loads((reader.schema.metadata or {})[b"templates"])]
            rows = reader.read_all().to_pylist()
        for row in rows:
            row["templates"] = None if row["templates"] is None else frozenset(texts[i] for i in row["templates"])
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        return f"it cannot be read: {str(error).splitlines()[0]}"
    if facts is None:
        return None
    if len(rows) != len(facts.index_rows):
        return f"it tells of {len(rows)} row groups; the segment has {len(facts.index_rows)}"
    return next(
        (
            f"its {key} of row group {number} are not those of the segment"
            for number, (row, known) in enumerate(zip(rows, facts.index_rows, strict=True))
            for key in known
            if row[key] != known[key]
        ),
        None,
    )
