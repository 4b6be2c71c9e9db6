"""Opening a store after anything: what the catalogue says exists, then what the log still holds."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from atalaia.environment.errors import AtalaiaError
from atalaia.environment.state import sync_directory
from atalaia.store import wal
from atalaia.store.batch import decode
from atalaia.store.catalogue import Catalogue
from atalaia.store.commit import stored_batch
from atalaia.store.compact import index_path
from atalaia.store.copying import copy_file
from atalaia.store.memory import MemoryTable
from atalaia.store.salvage import FOLDER
from atalaia.store.segment import Made
from atalaia.store.shelf import log_damaged
from atalaia.store.streams import Streams

log = logging.getLogger("atalaia.store")


@dataclass(slots=True)
class Recovered:
    """What was found: segments, memory tables (one a log file, oldest first, the last one is written on), sources.

    `seq` is the next one; `damaged` names the segments whose file is missing or has another size: they are not read.
    """

    segments: list[Made]
    damaged: list[str]
    tables: list[MemoryTable]
    seq: int
    positions: dict[str, int]
    replayed: int
    cuts: list[wal.Cut]


@contextmanager
def opening(directory: Path) -> Iterator[None]:
    """Make the folders of a store, and say what can be done about a failure to read or write inside."""
    try:
        for folder in (directory, directory / "wal", directory / "segments"):
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except (OSError, sqlite3.Error) as error:
        raise AtalaiaError(
            f"the store at {directory} cannot be opened: {error}",
            "see that its disk has room and that you may read and write there",
        ) from error


def lock(directory: Path) -> int:
    """Take the store's directory for this process; the descriptor holds the lock.

    Raises AtalaiaError when another process has it.
    """
    descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise AtalaiaError(
            f"another process has the store at {directory} open",
            "stop it first (`atalaia status` shows it), or give another directory",
        ) from error
    return descriptor


def open_catalogue(directory: Path) -> Catalogue:
    """The store's catalogue, a new one in a new store.

    Raises AtalaiaError for one that is damaged, and where there are segments without one: they would be removed.
    """
    path = directory / "catalogue.sqlite"
    lost = not path.exists() or not path.stat().st_size
    if lost and any((directory / "segments").glob("*.parquet")):
        raise AtalaiaError(
            f"{path} is missing or empty, and there are segments",
            "`atalaia store repair` makes it anew from them",
        )
    return Catalogue(path)


def log_path(directory: Path, generation: int) -> Path:
    """The write-ahead log of a generation."""
    return directory / "wal" / f"{generation:016d}.wal"


def recover(directory: Path, catalogue: Catalogue, streams: Streams) -> Recovered:
    """Remove what never came to exist, replay the rest of the log. Damaged tails are cut off and logged."""
    exist = catalogue.segments()
    segments, damaged = _sweep(directory / "segments", exist)
    done = catalogue.generation
    found = Recovered(segments, damaged, [], catalogue.last_seq + 1, catalogue.sources(), 0, [])
    removed = False
    for path in sorted((directory / "wal").glob("*.wal")):
        generation = int(path.stem)
        if generation <= done:
            path.unlink()
            removed = True
            continue
        table = MemoryTable(generation, born=time.monotonic())
        for record in wal.scan(path):
            if isinstance(record, wal.Cut):
                _set_aside(directory, record)
                wal.cut_off(record)
                found.cuts.append(record)
                log.warning("event=wal_cut file=%s offset=%d lost_bytes=%d", path.name, record.offset, record.lost)
                break
            entries, _ = decode(record.payload, most=None)
            batch = stored_batch(entries, record.tenant, streams, record.seq)
            table.add(batch, record.sources)
            found.positions.update({s.id: s.end for s in record.sources})
            found.seq = max(found.seq, record.seq + len(batch))
            found.replayed += len(batch)
        found.tables.append(table)
    if removed:
        sync_directory(directory / "wal")
    if not found.tables:
        found.tables.append(MemoryTable(done + 1, born=time.monotonic()))
    _forget_streams(exist, found.tables, catalogue, streams)
    return found


def _set_aside(directory: Path, cut: wal.Cut) -> None:
    """Keep a copy of a log that has whole records behind its damage, which no crash leaves behind.

    They are not replayed: what they follow is lost, and their sources would be taken for complete.
    """
    whole = sum(isinstance(found, wal.Record) for found in wal.intact(cut.path, cut.offset))
    if whole:
        target = directory / FOLDER / f"{cut.path.name}.{time.time_ns()}"
        try:
            target.parent.mkdir(exist_ok=True)
            copy_file(cut.path, target)
            sync_directory(target.parent)
        except OSError as error:
            raise AtalaiaError(
                f"{cut.path} is damaged, and no copy of it can be kept at {target}: {error}",
                "free disk space; or move the file away, with what is in it",
            ) from error
        log.error("event=wal_damaged file=%s whole_records_behind=%d copy=%s", cut.path.name, whole, target)


def _forget_streams(
    exist: Sequence[Made], tables: Sequence[MemoryTable], catalogue: Catalogue, streams: Streams
) -> None:
    """Forget the labels of streams of which retention and deletions have left nothing."""
    held = [made.held for made in exist]
    named = [part.streams for part in held if part is not None]
    if len(named) < len(held):
        return  # a segment with very many streams does not tell which
    unused = streams.unused([*named, *(np.fromiter(table.streams, np.int32) for table in tables)])
    if not unused:
        return
    try:
        catalogue.forget_streams(unused)
    except sqlite3.Error as error:  # a full disk: the next start may do it
        log.warning("event=streams_not_forgotten reason=%r", str(error))
        return
    for number in unused:
        streams.forget(number)
    log.info("event=streams_forgotten streams=%d", len(unused))


def _sweep(folder: Path, exist: Sequence[Made]) -> tuple[list[Made], list[str]]:
    """Remove files that no catalogue row has. The segments whole by their size, and the names of the others."""
    names = {name for made in exist for name in (made.segment.name, index_path(folder, made.segment).name)}
    for path in folder.iterdir():
        if path.name not in names and not path.is_dir():
            path.unlink()
    whole = [made for made in exist if _size(folder / made.segment.name) == made.segment.size]
    damaged = sorted({made.segment.name for made in exist} - {made.segment.name for made in whole})
    for name in damaged:
        log_damaged(name, "it is missing, or its size is not the catalogue's")
    return whole, damaged


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1
