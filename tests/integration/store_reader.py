"""A reader of store directories written from docs/store-format.md alone: nothing of atalaia is imported here.

Parquet is read by DuckDB, which is not what wrote it. All that the document promises of a file is asserted on the way.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import struct
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import re2

_FIXED = ("ts", "seq", "stream_id", "labels", "line", "metadata")
_RECORD = struct.Struct("<4sIQIQ")
_MASK = 2**64 - 1


@dataclass(frozen=True)
class Entry:
    """`labels` is the stream as the store spells it."""

    tenant: str
    labels: str
    ts: int
    seq: int
    line: str
    metadata: dict[str, str] = field(hash=False)


@dataclass
class Found:
    """What a directory holds: visible entries in the order of seq, where each source stands, and how much was read."""

    entries: list[Entry]
    sources: dict[str, int]
    levels: dict[int, int]
    logged: int
    hidden: int
    bands: int
    groups: int
    torn: int


def read(directory: Path) -> Found:
    """All of a store that no process has open; nothing in it is changed."""
    with _copy_of_catalogue(directory) as catalogue:
        return _Reader(directory, catalogue).read()


@contextmanager
def _copy_of_catalogue(directory: Path) -> Iterator[sqlite3.Connection]:
    """SQLite would tidy up after a crash."""
    with tempfile.TemporaryDirectory() as name:
        for path in directory.glob("catalogue.sqlite*"):
            shutil.copy(path, name)
        with closing(sqlite3.connect(Path(name) / "catalogue.sqlite")) as catalogue:
            catalogue.row_factory = sqlite3.Row
            yield catalogue


class _Reader:
    def __init__(self, directory: Path, catalogue: sqlite3.Connection) -> None:
        self.directory = directory
        self.values = dict(catalogue.execute("SELECT key, value FROM store").fetchall())
        assert self.values["format"] == 2
        rows = catalogue.execute("SELECT id, tenant, labels FROM streams").fetchall()
        self.streams = {row["id"]: (row["tenant"], row["labels"]) for row in rows}
        self.numbers = {stream: number for number, stream in self.streams.items()}
        self.segments = catalogue.execute("SELECT * FROM segments").fetchall()
        self.deletions = catalogue.execute("SELECT * FROM deletions").fetchall()
        sources = dict(catalogue.execute("SELECT id, position FROM sources").fetchall())
        self.found = Found([], sources, {0: 0, 1: 0}, 0, 0, 0, 0, 0)

    def read(self) -> Found:
        for row in self.segments:
            self._segment(row)
        self._logs()
        self.found.entries.sort(key=lambda entry: entry.seq)
        assert len({entry.seq for entry in self.found.entries}) == len(self.found.entries), "a seq was given twice"
        return self.found

    def _keep(self, entry: Entry, purged: int) -> None:
        """Unless a deletion hides it that was not applied yet."""
        if any(_hides(deletion, self.numbers, entry) for deletion in self.deletions if deletion["id"] > purged):
            self.found.hidden += 1
        else:
            self.found.entries.append(entry)

    # -- the write-ahead log

    def _logs(self) -> None:
        paths = sorted((self.directory / "wal").glob("*.wal"))
        for path in paths:
            assert re.fullmatch(r"[0-9]{16}\.wal", path.name)
            if int(path.stem) <= self.values["generation"]:
                continue
            data = path.read_bytes()
            at = self._records(data) if len(data) >= 8 else 0
            self.found.torn += len(data) - at

    def _records(self, data: bytes) -> int:
        """Take the records of a log file; where the first that is damaged or cut short begins."""
        assert data[:8] == b"ATLWAL\0\1"
        at = 8
        while len(data) - at >= _RECORD.size:
            magic, crc, seq, header_size, payload_size = _RECORD.unpack_from(data, at)
            start = at + _RECORD.size
            end = start + header_size + payload_size
            if magic != b"ATWR" or end > len(data) or zlib.crc32(data[at + 8 : end]) != crc:
                break
            header = json.loads(data[start : start + header_size])
            self._record(seq, header, data[start + header_size : end])
            at = end
        return at

    def _record(self, seq: int, header: dict[str, Any], payload: bytes) -> None:
        with pa.ipc.open_stream(payload) as stream:
            rows = stream.read_all().to_pylist()
        for number, row in enumerate(rows):
            metadata = dict(row.get("metadata") or ())
            entry = Entry(header["tenant"], row["labels"], row["ts"], seq + number, row["line"], metadata)
            self.found.logged += 1
            self._keep(entry, 0)
        for source, start, end in header["sources"]:
            assert self.found.sources.get(source, start) == start
            self.found.sources[source] = end

    # -- segments

    def _segment(self, row: sqlite3.Row) -> None:
        path = self.directory / "segments" / row["name"]
        data = path.read_bytes()
        assert (len(data), zlib.crc32(data)) == (row["bytes"], row["crc32"])
        number = int(re.fullmatch(r"[0-9]{20}-([0-9]{16})\.parquet", row["name"])[1])  # type: ignore[index]
        assert row["name"] == f"{row['min_ts']:020d}-{number:016d}.parquet"
        assert number <= self.values["number"]
        keys = json.loads(row["keys"])
        names, entries, sizes = _parquet(path)
        own = [f"meta.{key}" for key in keys]
        assert set(names) == {*_FIXED, *own, *(("block", "template") if row["level"] else ())}
        self._agrees(row, entries)
        if row["level"] == 0:
            assert not row["index_bytes"]
            assert not own
            assert [(e["ts"], e["seq"]) for e in entries] == sorted((e["ts"], e["seq"]) for e in entries)
        else:
            _Compacted(row, number, entries, sizes, path.with_suffix(".index")).check()
            self.found.groups += len(sizes)
            self.found.bands += len({group["band"] for group in _index(path.with_suffix(".index"))[0]})
        self.found.levels[row["level"]] += 1
        for entry in entries:
            metadata = dict(entry["metadata"] or {})
            assert metadata or entry["metadata"] is None
            assert not any(key in metadata for key in keys)
            metadata |= {key: entry[f"meta.{key}"] for key in keys if entry[f"meta.{key}"] is not None}
            tenant, labels = self.streams[entry["stream_id"]]
            assert labels == entry["labels"]
            assert labels == json.dumps(json.loads(labels), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            self._keep(Entry(tenant, labels, entry["ts"], entry["seq"], entry["line"], metadata), row["purged"])

    def _agrees(self, row: sqlite3.Row, entries: list[dict[str, Any]]) -> None:
        """The catalogue's row says what the file does."""
        ts, seq = [e["ts"] for e in entries], [e["seq"] for e in entries]
        sizes = [len(e["line"].encode()) for e in entries]
        assert (row["rows"], row["line_bytes"]) == (len(entries), sum(sizes))
        assert (row["min_ts"], row["max_ts"]) == (min(ts), max(ts))
        assert (row["first_seq"], row["last_seq"]) == (min(seq), max(seq))
        assert row["last_seq"] <= self.values["last_seq"]
        held: dict[int, list[tuple[int, int]]] = {}
        for entry, size in zip(entries, sizes, strict=True):
            held.setdefault(entry["stream_id"], []).append((entry["ts"], size))
        if len(held) > 10_000:
            assert row["held"] is None
            return
        count = len(row["held"]) // 32
        parts = struct.unpack(f"<{count}i{count}i{count}q{count}q{count}q", row["held"])
        columns = [parts[i * count : (i + 1) * count] for i in range(5)]
        expected = [
            (stream, len(has), sum(s for _, s in has), min(t for t, _ in has), max(t for t, _ in has))
            for stream, has in held.items()
        ]
        assert sorted(zip(*columns, strict=True)) == sorted(expected)


def _hides(deletion: sqlite3.Row, numbers: dict[tuple[str, str], int], entry: Entry) -> bool:
    streams = np.frombuffer(deletion["streams"], "<i4").tolist()
    return (
        deletion["tenant"] == entry.tenant
        and deletion["start_ts"] <= entry.ts < deletion["end_ts"]
        and entry.seq <= deletion["seq"]
        and numbers.get((entry.tenant, entry.labels)) in streams
        and all(_holds(condition, entry.line) for condition in json.loads(deletion["conditions"]))
    )


def _holds(condition: dict[str, Any], line: str) -> bool:
    passed = any(bool(re2.search(text, line)) if regex else text in line for text, regex in condition["tests"])
    return passed != condition["negated"]


def _parquet(path: Path) -> tuple[list[str], list[dict[str, Any]], list[int]]:
    """The columns, the rows in the file's order, and the rows of each row group."""
    with duckdb.connect() as connection:
        file = f"'{path}'"
        found = connection.execute(
            f"SELECT * FROM read_parquet({file}, file_row_number = true) ORDER BY file_row_number"
        )
        names = [column[0] for column in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
        groups = connection.execute(
            f"SELECT row_group_id, any_value(row_group_num_rows) FROM parquet_metadata({file}) GROUP BY 1 ORDER BY 1"
        ).fetchall()
    return [name for name in names if name != "file_row_number"], rows, [size for _, size in groups]


def _index(path: Path) -> tuple[list[dict[str, Any]], list[tuple[str, str]]]:
    with pa.ipc.open_file(pa.py_buffer(path.read_bytes())) as reader:
        return reader.read_all().to_pylist(), json.loads(reader.schema.metadata[b"templates"])


_TOKEN = re.compile(r"[A-Za-z0-9]+")
_DIGIT = re.compile(r"[0-9]")


def variable_tokens(line: str) -> list[str]:
    return [token for token in _TOKEN.findall(line) if _DIGIT.search(token)]


def template(line: str) -> str:
    return _TOKEN.sub(lambda found: "\x11" if _DIGIT.search(found[0]) else found[0], line)


def bloom(tokens: set[str]) -> bytes:
    if not tokens:
        return b""
    size = -(-10 * len(tokens) // 64) * 64
    filled = bytearray(size // 8)
    for token in tokens:
        h = 0xCBF29CE484222325
        for byte in token.encode():
            h = (h ^ byte) * 0x100000001B3 & _MASK
        h ^= h >> 33
        h = h * 0xFF51AFD7ED558CCD & _MASK
        h ^= h >> 33
        a, b = h % 2**32, h >> 32 | 1
        for i in range(7):
            bit = (a + i * b) % size
            filled[bit // 8] |= 1 << bit % 8
    return bytes(filled)


class _Compacted:
    """The promises of level 1."""

    def __init__(
        self, row: sqlite3.Row, number: int, entries: list[dict[str, Any]], sizes: list[int], index: Path
    ) -> None:
        self.number = number
        ends = np.cumsum(sizes).tolist()
        self.groups = [entries[end - size : end] for end, size in zip(ends, sizes, strict=True)]
        data = index.read_bytes()
        assert (len(data), zlib.crc32(data)) == (row["index_bytes"], row["index_crc32"])
        self.index, listed = _index(index)
        self.texts = [text for text, _ in listed]
        self.letters = dict(listed)

    def check(self) -> None:
        assert len(self.index) == len(self.groups)
        letters: dict[str, set[str]] = {}
        for ordinal, (row, group) in enumerate(zip(self.index, self.groups, strict=True)):
            assert {entry["block"] for entry in group} == {2**20 * self.number + ordinal}
            self._group(row, group)
            for entry in group:
                if entry["template"] is not None:
                    assert entry["template"] == template(entry["line"])
                    text = "".join(variable_tokens(entry["line"]))
                    letters.setdefault(entry["template"], set()).update(c for c in text if not c.isdigit())
        assert {text: set(found) for text, found in self.letters.items()} == letters
        bands = [
            [(row, group) for _, row, group in some]
            for _, some in groupby(
                ((row["band"], row, group) for row, group in zip(self.index, self.groups, strict=True)),
                key=lambda found: found[0],
            )
        ]
        assert [band[0][0]["band"] for band in bands] == list(range(len(bands)))
        before = (-1, -1)
        for band in bands:
            self._band([group for _, group in band], last=band is bands[-1])
            keys = [(entry["ts"], entry["seq"]) for _, group in band for entry in group]
            assert min(keys) > before
            before = max(keys)

    def _group(self, row: dict[str, Any], group: list[dict[str, Any]]) -> None:
        assert row["rows"] == len(group)
        assert (row["min_ts"], row["max_ts"]) == (min(e["ts"] for e in group), max(e["ts"] for e in group))
        streams = {entry["stream_id"] for entry in group}
        assert (row["streams"] is None) == (len(streams) > 256)
        assert row["streams"] is None or sorted(row["streams"]) == sorted(streams)
        templates = {entry["template"] for entry in group}
        if row["templates"] is None:
            assert templates == {None}
        else:
            assert {self.texts[position] for position in row["templates"]} == templates
            assert len(row["templates"]) == len(templates)
        tokens = {token for entry in group for token in variable_tokens(entry["line"]) if len(token) >= 5}
        assert row["tokens"] == bloom(tokens)

    def _band(self, groups: list[list[dict[str, Any]]], last: bool) -> None:
        sizes = [sum(len(entry["line"].encode()) for entry in group) for group in groups]
        assert all(size <= 2 << 20 or len(group) == 1 for size, group in zip(sizes, groups, strict=True))
        assert all(size >= 512 << 10 for size in sizes[:-1])
        assert last or sum(sizes) >= 16 << 20
        templates = {entry["template"] for group in groups for entry in group}
        assert (None in templates) == (len({template(e["line"]) for g in groups for e in g}) > 1024)
        beside = [(entry["stream_id"], entry["template"]) for group in groups for entry in group]
        runs = [key for key, _ in groupby(beside)]
        assert len(runs) == len(set(runs)), "entries of one stream and one template stand in two places"
