"""Exports: the entries of a store in the order of (ts, seq), as Parquet or JSON Lines files of bounded size.

An export works on a snapshot of its own, below its directory, until it is complete. One that was cut off goes on behind
its last finished part.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.store import copying, manifest
from atalaia.store.batch import METADATA
from atalaia.store.manifest import Kind, Manifest, PartFile, Wanted
from atalaia.store.ordered import Selection, entries_in_order, settle
from atalaia.store.segment import LABELS, FileSink

PART_BYTES = 256 << 20
"""Size in Arrow after which a part ends."""
_PIECE_BYTES = 16 << 20
SNAPSHOT = ".snapshot"
SCHEMA = pa.schema(
    [
        ("tenant", pa.dictionary(pa.int32(), pa.utf8())),
        ("ts", pa.int64()),
        ("labels", LABELS),
        ("line", pa.utf8()),
        ("metadata", METADATA),
        ("seq", pa.int64()),
    ]
)
Progress = Callable[[int, int], None]


def export(directory: Path, target: Path, wanted: Wanted, progress: Progress) -> Manifest:
    """Write the entries of the store in `directory` below `target`; go on with what was begun there.

    `progress` is told entries done and entries in all. Raises InputError when `target` holds something else.
    """
    found = _begin(target, wanted)
    copy = target / SNAPSHOT
    if not copy.exists():
        if found.parts:
            raise InputError(f"{copy} is gone, so the export cannot go on", "export into a new directory")
        shutil.rmtree(target / f"{SNAPSHOT}.partial", ignore_errors=True)
        copying.snapshot(directory, copy)
    settle(copy)
    selection = Selection(wanted.start, wanted.end, wanted.tenant, found.parts[-1].last if found.parts else None)
    try:
        for part in _parts(entries_in_order(copy, selection, progress), target, wanted.kind, len(found.parts)):
            found = found.model_copy(update={"parts": (*found.parts, part)})
            found.save(target)
    except (OSError, pa.ArrowException) as error:
        raise AtalaiaError(
            f"the export cannot go on: {error}",
            "with enough disk the same command goes on; `atalaia store check` tells whether the store is damaged",
        ) from error
    found = found.model_copy(update={"complete": True})
    found.save(target)
    shutil.rmtree(copy)
    return found


def _begin(target: Path, wanted: Wanted) -> Manifest:
    for left in target.glob(f".{manifest.FILE_NAME}.*.partial"):
        left.unlink()
    found = manifest.load(target) if target.is_dir() else None
    if found is None:
        if target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise InputError(f"{target} is not an empty directory", "name one that is empty or does not exist")
        target.mkdir(parents=True, exist_ok=True)
        found = Manifest(wanted=wanted)
        found.save(target)
    elif found.complete:
        shutil.rmtree(target / SNAPSHOT, ignore_errors=True)
        raise InputError(f"the export in {target} is complete already", "name another directory for a new one")
    elif found.wanted != wanted:
        raise InputError(
            f"{target} holds an export that was begun with other options",
            f"give the same again ({found.wanted!r}), or another directory",
        )
    return found


def _parts(tables: Iterator[pa.Table], target: Path, kind: Kind, count: int) -> Iterator[PartFile]:
    """Write tables of `SCHEMA` as files, behind the `count` that are there."""
    pieces = _pieces(tables)
    for number, first in enumerate(pieces, count + 1):
        path = target / f"part-{number:06d}.{kind}"
        rows = size = 0
        with _writer(path, kind) as write:
            for piece in chain([first], pieces):
                write(piece)
                rows, size, last = rows + len(piece), size + piece.nbytes, piece.slice(len(piece) - 1)
                if size >= PART_BYTES:
                    break
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        end = last.column("ts")[0].as_py(), last.column("seq")[0].as_py()
        yield PartFile(name=path.name, rows=rows, bytes=path.stat().st_size, sha256=digest, last=end)


def _pieces(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same entries in tables of about _PIECE_BYTES at the most."""
    for table in tables:
        rows = max(1, len(table) * _PIECE_BYTES // max(1, table.nbytes))
        for at in range(0, len(table), rows):
            yield table.slice(at, rows)


@contextmanager
def _writer(path: Path, kind: Kind) -> Iterator[Callable[[pa.Table], object]]:
    """Takes tables; the file exists once the body ends, durably."""
    sink = FileSink(path)
    try:
        if kind is Kind.PARQUET:
            with pq.ParquetWriter(
                pa.PythonFile(sink, "w"), SCHEMA, compression="zstd", write_page_checksum=True
            ) as writer:
                yield lambda table: writer.write_table(table, row_group_size=len(table))
        else:
            with duckdb.connect(config={"threads": max(1, os.cpu_count() or 1)}) as connection:
                yield lambda table: _write_json(sink, connection, table)
        sink.finish()
    except BaseException:
        sink.discard()
        raise


def _write_json(sink: FileSink, connection: duckdb.DuckDBPyConnection, table: pa.Table) -> None:
    connection.register("entries", table)
    made = connection.sql(
        "SELECT to_json({tenant: tenant, ts: ts, labels: labels::JSON, line: line, metadata: metadata, seq: seq})"
        " || chr(10) FROM entries"
    ).to_arrow_table()
    for chunk in made.column(0).chunks:
        # Lines stand behind one another in the column already.
        first, last = (chunk.offset, chunk.offset + len(chunk))
        offsets = memoryview(chunk.buffers()[1]).cast("i")
        sink.write(chunk.buffers()[2][offsets[first] : offsets[last]])
