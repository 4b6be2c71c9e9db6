"""A spool: what a listener received and the outputs have not acknowledged yet, in segment files of JSON lines.

A job reads the segments as files. The folder is one process's own. docs/sources.md tells the format.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from atalaia.collector.listeners import records
from atalaia.collector.plan import Relabel
from atalaia.environment.errors import InputError
from atalaia.environment.state import sync_directory

log = logging.getLogger("atalaia.collector")
SEGMENT = 16 << 20  # bytes after which a new segment is begun
MOST = 1 << 30  # bytes of all segments, unless told otherwise
_SPARE = 16 << 20  # bytes that are left free on the disk
_EMPTY = 64 << 10  # bytes of a spool that holds next to nothing
_LOOK = 0.25  # seconds between looks whether there is room again


class Spool:
    """One job's spool. Any thread may append; `release` is called by whoever knows what was acknowledged."""

    def __init__(
        self, directory: Path, job: str, relabel: Relabel | None = None, most: int = MOST, segment: int = SEGMENT
    ) -> None:
        """Open or create it, its torn last line cut off. Raises InputError when it cannot be used.

        `relabel`: what happens to the labels when the records are read; here it only tells which labels matter.
        """
        self.directory = directory
        self.job = job
        self.relabel = relabel
        self._most, self._segment = most, segment
        self._lock = threading.Lock()
        self._syncing = threading.Lock()
        self._room = threading.Condition(self._lock)
        self._full = False
        self._closed = False
        self._written = self._synced = 0  # bytes since the start
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._owner = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            raise InputError(
                f"the spool {directory} cannot be used: {error.strerror}", "free it, or move it"
            ) from error
        try:
            fcntl.flock(self._owner, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._open()
        except OSError as error:
            os.close(self._owner)
            busy = error.errno in (errno.EAGAIN, errno.EACCES)
            why = "another collector uses it" if busy else error.strerror or str(error)
            remedy = "stop the other one, or give each its own positions file" if busy else "see its permissions"
            raise InputError(f"the spool {directory} cannot be opened: {why}", remedy) from error

    def _open(self) -> None:
        numbers = sorted(int(path.stem) for path in self.directory.glob("*.jsonl") if path.stem.isdigit())
        self._sizes: dict[int, int] = {number: self._path(number).stat().st_size for number in numbers}
        self.cursors: dict[str, str] = {}
        for number in numbers[-2:]:  # a segment begins with all cursors; the last one may have lost that line
            self._repair(number)
            self.cursors |= records.cursors_of(self._path(number).read_bytes())
        self._number = numbers[-1] if numbers else 0
        if numbers and self._sizes[self._number] < self._segment:
            self._descriptor = os.open(self._path(self._number), os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        else:
            self._begin()

    def _repair(self, number: int) -> None:
        """Cut off a last line that a crash left torn: nobody was told that it is kept, and nobody has read it."""
        path = self._path(number)
        data = path.read_bytes()
        end = data.rfind(b"\n") + 1
        if end < len(data):
            log.info("event=spool_repaired file=%s bytes=%d", path, len(data) - end)
            os.truncate(path, end)
            self._sizes[number] = end

    def _path(self, number: int) -> Path:
        return self.directory / f"{number:08}.jsonl"

    def _begin(self) -> None:
        """Begin the next segment, durably; the names of segments never come again."""
        number = self._number + 1
        first = records.state(self.cursors)
        descriptor = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC)
        try:
            os.write(descriptor, first)
            os.fdatasync(descriptor)
            sync_directory(self.directory)
        except OSError:
            os.close(descriptor)
            self._path(number).unlink()
            raise
        self._number, self._descriptor = number, descriptor
        self._sizes[number] = len(first)

    @property
    def size(self) -> int:
        """Bytes of all segments."""
        return sum(self._sizes.values())

    def append(self, table: pa.Table, sync: bool = False, patience: float = 0.0) -> bool:
        """Add entries (store.batch.SCHEMA, or records.PLACED); with `sync` they are on disk when this returns.

        False: it is full, or the disk is, after `patience` seconds of waiting, and none of them is in it.
        """
        if not len(table):
            return True
        pieces = list(records.encode(table))
        end = time.monotonic() + patience
        with self._lock:
            while not self._fits(sum(map(len, pieces))) or not self._write(pieces):
                if self._closed or (left := end - time.monotonic()) <= 0:
                    return False
                self._room.wait(min(left, _LOOK))
            self._tell(False, "")
            if "cursor" in table.column_names:
                # The last one of each source stays.
                places = zip(table.column("source").to_pylist(), table.column("cursor").to_pylist(), strict=True)
                self.cursors.update(places)
            target = self._written
        if sync:
            self._sync(target)
        return True

    def _fits(self, size: int) -> bool:
        # What is larger than the bound by itself is taken by an empty spool, or it would wait for ever.
        if self.size + size > self._most and self.size > _EMPTY:
            self._tell(True, f"it has {self.size} bytes, and may have {self._most}")
            return False
        disk = os.statvfs(self.directory)
        if disk.f_bavail * disk.f_frsize < size + _SPARE:
            self._tell(True, "the disk is full")
            return False
        return True

    def _write(self, pieces: list[bytes]) -> bool:
        """All of it or nothing: what could be written of a part is cut off again."""
        try:
            if self._sizes[self._number] >= self._segment:
                os.fdatasync(self._descriptor)
                self._begin_next()
            before = self._sizes[self._number]
            try:
                for piece in pieces:
                    view = memoryview(piece)
                    while view:
                        view = view[os.write(self._descriptor, view) :]
            except OSError:
                os.ftruncate(self._descriptor, before)
                raise
        except OSError as error:
            self._tell(True, error.strerror or str(error))
            return False
        size = sum(map(len, pieces))
        self._sizes[self._number] = before + size
        self._written += size
        return True

    def _begin_next(self) -> None:
        old = self._descriptor
        self._begin()
        os.close(old)

    def _sync(self, target: int) -> None:
        """Wait until the bytes until `target` are on disk; whoever waits first syncs for all."""
        with self._syncing:
            if self._synced >= target:
                return
            with self._lock:
                written = self._written
                descriptor = os.dup(self._descriptor)
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
            self._synced = written

    def sync(self) -> None:
        """Everything that was appended is on disk when this returns."""
        self._sync(self._written)

    def begin_at(self, cursors: Mapping[str, str]) -> None:
        """Keep places of sources, durably, before anything was received from them."""
        with self._lock:
            self.cursors |= cursors
            self._begin_next()

    def forget(self, source: str) -> None:
        """Keep the cursor of a source no longer that will not come again."""
        with self._lock:
            self.cursors.pop(source, None)

    def release(self, acknowledged: Mapping[str, int]) -> None:
        """Delete the segments that every output has: `acknowledged` is the least offset by path.

        The last one stays, unless it is all there is and takes the room that others wait for.
        """
        with self._lock:
            if self._full and not self._closed and self._has(acknowledged, self._number):
                with contextlib.suppress(OSError):
                    self._begin_next()
            for number in [number for number in self._sizes if number != self._number]:
                if self._has(acknowledged, number):
                    with contextlib.suppress(FileNotFoundError):
                        self._path(number).unlink()
                    del self._sizes[number]
            self._room.notify_all()

    def _has(self, acknowledged: Mapping[str, int], number: int) -> bool:
        return acknowledged.get(str(self._path(number)), -1) >= self._sizes[number]

    def drained(self, acknowledged: Mapping[str, int]) -> bool:
        """Whether every output has all that is in it."""
        with self._lock:
            return all(self._has(acknowledged, number) for number in self._sizes)

    def reads(self, label: str) -> bool:
        """Whether a label of a record makes a difference: relabelling may read it, or entries have it."""
        if not label.startswith("__"):
            return True
        if self.relabel is None:
            return False
        reads = getattr(self.relabel, "reads", None)
        return bool(reads(label)) if reads is not None else True

    def wants(self, labels: Mapping[str, str]) -> bool:
        """Whether relabelling keeps entries with these labels."""
        return self.relabel is None or self.relabel(labels) is not None

    def _tell(self, full: bool, why: str) -> None:
        if full != self._full:
            self._full = full
            if full:
                log.warning("event=spool_full job=%r reason=%r", self.job, why)
            else:
                log.info("event=spool_has_room job=%r", self.job)

    def close(self) -> None:
        """Sync and close it; who waits for room gives up."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._room.notify_all()
        with self._syncing:
            os.fdatasync(self._descriptor)
            os.close(self._descriptor)
            os.close(self._owner)
