"""The positions file: SQLite; a row a file and job, and one a chunk that is on its way (tables: docs/sources.md).

A new file's row is on disk before its first byte is sent. Offsets may lag behind what the sink has: a store of ours
counts itself, and for any other the planned chunks are sent again as they were.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

from atalaia.collector.reading import tables
from atalaia.collector.reading.identity import Known
from atalaia.collector.reading.tables import Planned
from atalaia.environment.errors import InputError

log = logging.getLogger("atalaia.collector")
_RETRY = 1.0  # seconds between attempts to write


class Positions:
    """The positions of one output, open for writing; used by one thread at a time.

    `known`: the files by id, as they were found at the start and as they are put since. `planned`: chunks that were
    on their way when the collector ended, by file, in order.
    """

    def __init__(self, path: Path) -> None:
        """Open, create, or take over what an older Atalaia wrote. Raises InputError when it is damaged or in use.

        A place that cannot be written now is told, and tried again at each `save`.
        """
        self._path = path
        self._db: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._changed: dict[str, Known] = {}
        self._gone: set[str] = set()
        self._fresh: set[str] = set()  # ids that are not durable yet
        self._told = False
        self._tried = 0.0
        self.known: dict[str, Known] = {}
        self.planned: dict[str, list[Planned]] = {}
        try:
            if not self._open():
                self.known, self.planned = tables.load(path) if path.exists() else ({}, {})
        except InputError:
            self._release()
            raise

    def _open(self) -> bool:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._locked()
            self._db = tables.connect(self._path)
            known, planned = tables.rows(self._db, self._path)
        except (OSError, sqlite3.OperationalError) as error:
            self._failed(error)
            return False
        if self._fresh or self.known:
            if set(known) - set(self.known):
                raise InputError(f"the positions file {self._path} is another than before", "start the collector again")
        else:
            self.known, self.planned = known, planned
        return True

    def _locked(self) -> None:
        if self._lock is not None:
            return
        # Not the file itself: closing any descriptor of it would drop SQLite's own locks.
        descriptor = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError):
                raise InputError(
                    f"another collector works with the positions file {self._path}",
                    "stop it first, or give this one a positions file of its own",
                ) from error
            raise
        self._lock = descriptor

    def put(self, known: Known) -> None:
        """Keep a file's row, at the next `save`."""
        if known.id not in self.known:
            self._fresh.add(known.id)
        self.known[known.id] = known
        self._changed[known.id] = known

    def forget(self, known_id: str) -> None:
        """Remove a file's row, at the next `save`."""
        self.known.pop(known_id, None)
        self._changed.pop(known_id, None)
        self._fresh.discard(known_id)
        self._gone.add(known_id)

    def durable(self, known_id: str) -> bool:
        """Whether the id would be known after a crash: only then anything may be sent under it."""
        return known_id not in self._fresh

    def save(self) -> bool:
        """Write what changed; synced when an id is new. False: it cannot be written now (told)."""
        if not (self._changed or self._gone):
            return True
        return self._write(self._changed.values(), ())

    def plan(self, chunks: Iterable[Planned]) -> bool:
        """Note chunks before they are sent; they are dropped once the file's offset passes them. False as `save`."""
        return self._write(self._changed.values(), chunks)

    def _write(self, changed: Iterable[Known], planned: Iterable[Planned]) -> bool:
        if self._told and time.monotonic() - self._tried < _RETRY:
            return False
        if self._db is None and not self._open():
            return False
        assert self._db is not None
        try:
            self._db.execute(f"PRAGMA synchronous = {'FULL' if self._fresh else 'NORMAL'}")
            with self._db:
                self._db.execute("BEGIN IMMEDIATE")
                self._db.executemany(tables.PUT, [astuple(known) for known in changed])
                self._db.executemany("DELETE FROM files WHERE id = ?", [(gone,) for gone in self._gone])
                self._db.executemany("INSERT OR REPLACE INTO planned VALUES (?, ?, ?, ?)", map(astuple, planned))
                self._db.execute(tables.SETTLED)
        except sqlite3.Error as error:
            self._failed(error)
            return False
        self._changed.clear()
        self._gone.clear()
        self._fresh.clear()
        if self._told:
            self._told = False
            log.info("event=positions_written file=%s", self._path)
        return True

    def _failed(self, error: Exception) -> None:
        self._tried = time.monotonic()
        if not self._told:
            self._told = True
            log.error(
                "event=positions_not_written file=%s reason=%r remedy='make room, or allow writing there'",
                self._path,
                str(error),
            )

    def close(self) -> None:
        """Save and close."""
        self._tried = 0.0
        self.save()
        with contextlib.suppress(sqlite3.Error):
            if self._db is not None:
                self._db.close()
        self._db = None
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def read(path: Path) -> dict[str, Known]:
    """The known files by id; empty when there is no file. Raises InputError when it is damaged."""
    if not path.exists():
        return tables.of_json(path.with_suffix(".json"))
    return tables.load(path)[0]


def delivered(files: Mapping[str, Known], path: Path) -> bool:
    """Whether every whole line of `path` is acknowledged for each job that reads it, by what `files` tells."""
    try:
        status = path.stat()
    except OSError:
        return True
    found = [known for known in files.values() if known.identity == (status.st_dev, status.st_ino)]
    return bool(found) and all(known.offset >= status.st_size for known in found)


@dataclass(frozen=True, slots=True)
class Lag:
    """How far a job is behind in a file: `behind` bytes of `size`, the oldest of them unread for about `seconds`."""

    path: str
    job: str
    size: int
    behind: int
    seconds: float


def lag(path: Path) -> list[Lag]:
    """The lag of each file that a positions file names and that is still there. Errors as `read`.

    The time is a guess, at most that since the file was served last; a collector at work knows better (Files.lags).
    """
    files = read(path)
    worked = max((os.stat(p).st_mtime for p in (path, f"{path}-wal") if os.path.exists(p)), default=0.0)
    now = time.time()
    found = []
    for known in files.values():
        try:
            status = os.stat(known.path)
        except OSError:
            continue
        if known.identity == (status.st_dev, status.st_ino):
            behind = max(0, status.st_size - known.offset)
            since = max(known.seen, min(status.st_mtime, worked))
            found.append(Lag(known.path, known.job, status.st_size, behind, max(0.0, now - since) if behind else 0.0))
    return found
