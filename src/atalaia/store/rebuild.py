"""A catalogue made anew, from the segments' own files and what can be read of the old one."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from atalaia.store import segment, wal
from atalaia.store.batch import decode
from atalaia.store.catalogue import STREAM_GAP, Catalogue
from atalaia.store.deletion import Deletion
from atalaia.store.intact import checksum
from atalaia.store.salvage import Repaired, keep
from atalaia.store.segment import Made, Segment
from atalaia.store.streams import Streams
from atalaia.store.verify import UNREADABLE, Facts, groups, index_problem

_TABLES: dict[str, tuple[type | tuple[type, ...], ...]] = {
    "store": (str, int),
    "streams": (int, str, str),
    "sources": (str, int, int),
    "deletions": (int, str, str, int, int, int, bytes, str, int, (int, type(None)), int),
}
TENANT = "fake"
"""Of streams that only segments know: files do not say it, and it is the name of the only one where there is one."""


def rebuild(directory: Path, target: Path, dry_run: bool) -> Iterator[Repaired]:
    """Write the catalogue of the store in `directory` to `target`; tell what had to be assumed.

    Segments that cannot be taken as they are, since they are damaged or hold what others hold, are written anew.
    """
    target.unlink(missing_ok=True)
    old = {name: _rows(directory / "catalogue.sqlite", name) for name in _TABLES}
    lost = [name for name, rows in old.items() if rows is None]
    yield Repaired(
        "catalogue.sqlite", f"made anew; of the old one {', '.join(lost) if lost else 'nothing'} could not be read"
    )
    labels: dict[int, str] = {}
    with closing(Catalogue(target)) as catalogue:
        taken = Taken()
        files = sorted((directory / "segments").glob("*.parquet"), key=_number, reverse=True)
        number = max(map(_number, files), default=0)
        for path in files:
            found = _read(path)
            labels |= found.facts.labels
            repeated = taken.has(found.seqs)
            taken.add(found.seqs)
            if found.whole and not repeated.any():
                catalogue.replace([], [_made(path, found.facts)])
                continue
            entries = found.entries.filter(pa.array(~repeated)) if found.entries is not None else None
            if not dry_run:
                number += 1
                if entries is not None and len(entries):
                    own = _streams([(n, TENANT, text) for n, text in found.facts.labels.items()])
                    catalogue.replace([], [segment.write(entries.to_batches(), own, number, path.parent)])
                for file in (path, path.with_suffix(".index")):
                    if file.exists():
                        keep(directory, file)
                        file.unlink()
            what = f"{0 if entries is None else len(entries)} entries are in a new segment, {repeated.sum()} in others"
            yield Repaired(f"segments/{path.name}", what, 0 if found.whole else None)
        highest = max(labels, default=0) + STREAM_GAP
        streams = {row[0]: row for row in old["streams"] or () if 0 < row[0] <= highest and _is_labels(row[2])}
        for row in list(_assumed(labels, streams)):
            streams[row[0]] = row
            yield Repaired("catalogue.sqlite", f"stream {row[0]} {row[2]} is taken to be of tenant {row[1]}")
        registry = _streams(streams.values())
        known = dict(old["store"] or ())
        generation = known.get("generation", _generation(directory, catalogue.last_seq))
        for row in old["deletions"] or ():
            try:
                catalogue.add_deletion(Deletion.of_row(row), registry)
            except (sqlite3.DatabaseError, ValueError, TypeError, KeyError):
                yield Repaired("catalogue.sqlite", f"deletion {row[0]} cannot be read: ask for it again")
        sources = {name: position for name, position, _ in old["sources"] or ()}
        catalogue.add(None, registry, sources, generation)


def _is_labels(text: object) -> bool:
    try:
        return isinstance(orjson.loads(str(text)), dict)
    except orjson.JSONDecodeError:
        return False


def _assumed(labels: Mapping[int, str], known: Mapping[int, tuple[Any, ...]]) -> Iterator[tuple[int, str, str]]:
    """Streams that only segments know, which do not tell their tenants.

    Of several with the same labels each must be of a tenant of its own; tenants that send the same get their numbers
    in the same order.
    """
    right = {number for number, row in known.items() if labels.get(number, row[2]) == row[2]}
    times = Counter(known[number][2] for number in right)
    for number, text in sorted(labels.items()):
        if number not in right:
            times[text] += 1
            yield number, TENANT if times[text] == 1 else f"unknown-{times[text]}", text


def _streams(rows: Iterable[tuple[Any, ...]]) -> Streams:
    streams, seen = Streams(), set()
    for number, tenant, text in sorted(rows):
        streams.restore(number, f"unknown-{number}" if (tenant, text) in seen else tenant, text)
        seen.add((tenant, text))
    return streams


def _rows(path: Path, table: str) -> list[tuple[Any, ...]] | None:
    """The rows of a table of the old catalogue that can be ones; None when it cannot be read."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as db:
            rows = db.execute(f"SELECT * FROM {table}").fetchall()
    except (sqlite3.DatabaseError, ValueError):
        return None
    types = _TABLES[table]
    return [row for row in rows if len(row) == len(types) and all(map(isinstance, row, types))]


def _number(path: Path) -> int:
    return int(path.stem.rpartition("-")[2])


class _Read:
    """What is in a segment's file: facts, the entries' seq, and the entries unless all can be taken as they are."""

    def __init__(self) -> None:
        self.facts = Facts()
        self.whole = True
        self.seqs = np.empty(0, np.int64)
        self.entries: pa.Table | None = None


def _read(path: Path) -> _Read:
    found, tables = _Read(), []
    try:
        for group in groups(path):
            if group.entries is None:
                found.whole = False
            else:
                found.facts.add(group, group.entries)
                tables.append(group.entries)
    except UNREADABLE:
        found.whole = False
    if tables:
        found.entries = pa.concat_tables(tables)
        found.seqs = found.entries.column("seq").to_numpy()
    return found


def _made(path: Path, facts: Facts) -> Made:
    """The catalogue's row of an intact file."""
    size, crc = checksum(path)
    index, index_size, index_crc = path.with_suffix(".index"), 0, 0
    if index.exists() and index_problem(index, facts) is None:
        index_size, index_crc = checksum(index)
    level = int("block" in pq.read_schema(path).names)
    row = Segment(
        path.name, level, facts.rows, size, facts.line_bytes, facts.min_ts, facts.max_ts, facts.first_seq,
        facts.last_seq, crc, index_size, index_crc, facts.keys,
    )  # fmt: skip
    return Made(row, facts.held)


def _generation(directory: Path, last_seq: int) -> int:
    """The last log whose entries are all in segments; 0 for none. Tables became segments in the order of their logs."""
    done = 0
    for path in sorted((directory / "wal").glob("*.wal")):
        records = [one for one in wal.intact(path) if isinstance(one, wal.Record)]
        if not records or records[-1].seq + len(decode(records[-1].payload, most=None)[0]) - 1 > last_seq:
            break
        done = int(path.stem)
    return done


class Taken:
    """Which values of `seq` were met, as ranges: entries that arrived together mostly lie together."""

    def __init__(self) -> None:
        self._starts = self._ends = np.empty(0, np.int64)

    def has(self, seqs: np.ndarray) -> np.ndarray:
        """Which of them were met before."""
        at = np.searchsorted(self._starts, seqs, "right") - 1
        return (at >= 0) & (seqs < np.append(self._ends, 0)[at])

    def add(self, seqs: np.ndarray) -> None:
        """Take them in."""
        values = np.unique(seqs)
        breaks = np.flatnonzero(np.diff(values) > 1) + 1
        starts = np.concatenate([self._starts, values[:1], values[breaks]])
        ends = np.concatenate([self._ends, values[breaks - 1] + 1, values[-1:] + 1])
        order = np.argsort(starts)
        starts, ends = starts[order], np.maximum.accumulate(ends[order])
        first = np.append(True, starts[1:] > ends[:-1])[: len(starts)]
        self._starts = starts[first]
        self._ends = ends[np.append(np.flatnonzero(first)[1:] - 1, len(ends) - 1)] if len(starts) else ends
