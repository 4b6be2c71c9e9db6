"""The log store: open it, push entries, take snapshots to read, close it. Safe to use from any thread."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from atalaia.store import recovery, segment
from atalaia.store.batch import Limits, Source, keep_valid
from atalaia.store.catalogue import Catalogue
from atalaia.store.commit import Appended, Committer, Push, StoreUnavailable
from atalaia.store.index import indexed
from atalaia.store.memory import MemoryTable
from atalaia.store.retention import Retention, expired
from atalaia.store.segment import Segment
from atalaia.store.snapshot import Snapshot, memory_part, segment_part
from atalaia.store.space import Space
from atalaia.store.wal import LogFile

log = logging.getLogger("atalaia.store")
_BURST = 8  # a memory table fuller than one part in so many is written early once nothing comes any more
_FROZEN_MOST = 2  # full memory tables that may wait for their segment before pushes wait too


@dataclass(frozen=True, slots=True)
class Options:
    """`flush_bytes`: size of a memory table; `flush_seconds`: its age, at which it becomes a segment.

    After `idle_seconds` in which no segment was written, segments without templates get them.
    With less than `disk_floor` bytes free, pushes are refused.
    """

    flush_bytes: int = 48 << 20
    flush_seconds: float = 900.0
    idle_seconds: float = 5.0
    disk_floor: int = 256 << 20
    limits: Limits = field(default_factory=Limits)
    retention: Retention = field(default_factory=Retention)


class Store:
    """One open store directory."""

    def __init__(self, directory: Path, options: Options | None = None) -> None:
        """Open or create. Raises AtalaiaError when another process has it, or it cannot be read."""
        self.options = options or Options()
        self.directory = directory
        self.space = Space(directory, self.options.disk_floor)
        for folder in (directory, directory / "wal", directory / "segments"):
            folder.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            self._lock_descriptor = recovery.lock(directory)
            undo.callback(os.close, self._lock_descriptor)
            self._catalogue = Catalogue(directory / "catalogue.sqlite")
            undo.callback(self._catalogue.close)
            self.streams = self._catalogue.load_streams()
            found = recovery.recover(directory, self._catalogue, self.streams)
            log_file = LogFile(recovery.log_path(directory, found.tables[-1].generation))
            undo.pop_all()
        self.recovered = found
        self._guard = threading.Condition()
        self._segments = self._catalogue.segments()
        self._memory = found.tables.pop()
        self._frozen = found.tables
        self._readers = 0
        self._retired: list[Path] = []
        self._unindexable: set[str] = set()
        self._flush_wanted = False
        self._stopping = False
        self._closing = False
        self._failure: str | None = None
        self._committer = Committer(
            log_file, found.seq, found.positions, self.streams, self.space, self._publish, self._rotate
        )
        self._flusher = threading.Thread(target=self._flush_loop, name="flush", daemon=True)
        self._flusher.start()

    def append(
        self, table: pa.Table, tenant: str, sources: tuple[Source, ...] = (), payload: bytes | None = None
    ) -> Future[Appended]:
        """Push entries (schema `batch.SCHEMA`). The future resolves once they are on disk and can be queried.

        Entries beyond a limit are refused alone. The future raises StoreUnavailable when nothing could be stored.
        """
        if self._failure is not None and len(self._frozen) >= _FROZEN_MOST:
            refusal: Future[Appended] = Future()
            refusal.set_exception(
                StoreUnavailable(
                    f"memory is full and cannot be written to a segment: {self._failure}",
                    "free disk space; pushes are taken again then",
                )
            )
            return refusal
        valid, refused = keep_valid(table, self.options.limits)
        return self._committer.submit(Push(valid, tenant, sources, None if refused else payload, refused))

    def position(self, source: str) -> int | None:
        """Up to which byte `source` is stored; None when it is not known."""
        return self._committer.positions.get(source)

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """What is stored now. Files that the snapshot names stay until it is left."""
        with self._guard:
            self._readers += 1
            parts = [segment_part(self.directory, found, held) for found, held in self._segments]
            parts += [memory_part(table) for table in (*self._frozen, self._memory) if table.rows]
        try:
            yield Snapshot(tuple(parts), self.streams)
        finally:
            with self._guard:
                self._readers -= 1
                self._unlink_retired()

    def flush(self, seconds: float = 60.0) -> None:
        """Make a segment of everything in memory. Raises StoreUnavailable when that takes longer than `seconds`."""
        with self._guard:
            self._flush_wanted = True
        self._committer.wake()
        with self._guard:
            if not self._guard.wait_for(lambda: not self._flush_wanted and not self._frozen, seconds):
                raise StoreUnavailable(
                    f"memory could not be written to a segment: {self._failure or 'too slow'}",
                    "see the store's log",
                )

    def close(self) -> None:
        """Stop taking pushes, write memory to a segment, release the directory."""
        try:
            self.flush(60.0 if self._failure is None else 2.0)
        except StoreUnavailable as error:
            log.warning("event=close_without_flush reason=%r", str(error))
        with self._guard:
            self._stopping = True
            self._guard.notify_all()
        self._committer.stop()
        with self._guard:
            self._closing = True
            self._guard.notify_all()
        self._flusher.join()
        self._catalogue.close()
        os.close(self._lock_descriptor)

    # -- called by the commit thread

    def _publish(self, batch: pa.RecordBatch, sources: tuple[Source, ...]) -> None:
        with self._guard:
            if not self._memory.rows:
                self._memory.born = time.monotonic()
            self._memory.add(batch, sources)
            self._memory.touched = time.monotonic()

    def _rotate(self) -> LogFile | None:
        """Begin a new generation when the memory table is full or old."""
        memory = self._memory
        with self._guard:
            # A table without rows still holds positions that its log file alone knows.
            has_something = bool(memory.rows or memory.sources)
            full = memory.size >= self.options.flush_bytes
            old = memory.rows > 0 and time.monotonic() - memory.born > self.options.flush_seconds
            self._flush_wanted = self._flush_wanted and has_something
            if not (full or old or self._flush_wanted):
                self._guard.notify_all()
                return None
            # Segments cannot be written now: what is in memory waits, and `append` refuses more.
            if self._failure is not None and len(self._frozen) >= _FROZEN_MOST:
                return None
        try:
            following = LogFile(recovery.log_path(self.directory, memory.generation + 1))
        except OSError as error:
            log.warning("event=no_new_wal reason=%r", str(error))
            self._failure = str(error)
            return None
        with self._guard:
            self._failure = None if not self._frozen else self._failure
            self._frozen.append(memory)
            self._memory = MemoryTable(memory.generation + 1, born=time.monotonic())
            self._flush_wanted = False
            self._guard.notify_all()
            # Pushes wait here when segments cannot be written as fast as entries come.
            self._guard.wait_for(
                lambda: len(self._frozen) < _FROZEN_MOST or self._stopping or self._failure is not None
            )
        return following

    # -- the flush thread

    def _flush_loop(self) -> None:
        checked = time.monotonic()
        idle = False
        while True:
            with self._guard:
                patience = 0.0 if idle else self.options.idle_seconds
                self._guard.wait_for(lambda: bool(self._frozen) or self._closing, timeout=patience)
                table = self._frozen[0] if self._frozen else None
                if table is None and self._closing:
                    return
            if table is not None:
                idle = False
                try:
                    self._make_segment(table)
                    self._failure = None
                except Exception as error:  # noqa: BLE001 - the thread must go on; the entries are safe in the log
                    with self._guard:
                        self._failure = str(error)
                        self._guard.notify_all()
                    log.error("event=segment_failed generation=%d reason=%r", table.generation, str(error))
                    with self._guard:
                        if self._closing:
                            return
                        self._guard.wait_for(lambda: self._closing, timeout=1.0)
            else:
                self._flush_when_quiet()
                idle = self._index_one()
            if table is not None or time.monotonic() - checked > 60:
                checked = time.monotonic()
                try:
                    self._expire()
                except Exception as error:  # noqa: BLE001 - what is to be removed will be found again
                    log.error("event=retention_failed reason=%r", str(error))

    def _make_segment(self, table: MemoryTable) -> None:
        made: Segment | None = None
        if table.rows:
            made = segment.write(table.batches, self.streams, table.generation, self.directory / "segments")
        self._catalogue.add(made, table.streams, self.streams, table.sources, table.generation)
        with self._guard:
            self._frozen.remove(table)
            if made is not None:
                self._segments = sorted([*self._segments, (made, table.streams)], key=lambda s: s[0].min_ts)
            self._guard.notify_all()
        recovery.log_path(self.directory, table.generation).unlink(missing_ok=True)

    def _flush_when_quiet(self) -> None:
        """What a burst has left in memory becomes a segment too, so that it is indexed; a trickle waits for its age."""
        with self._guard:
            quiet = time.monotonic() - self._memory.touched >= self.options.idle_seconds
            if self._closing or not quiet or self._memory.size < self.options.flush_bytes // _BURST:
                return
            self._flush_wanted = True
        self._committer.wake()

    def _index_one(self) -> bool:
        """Give one more segment its templates; whether there was one."""
        with self._guard:
            found = next(
                (s for s, _ in self._segments if s.templates is None and s.name not in self._unindexable), None
            )
        if found is None:
            return False
        try:
            made = indexed(found, self.directory / "segments")
            self._catalogue.put_index(found.name, made)
        except Exception as error:  # noqa: BLE001 - the segment stays as it is, and is scanned
            self._unindexable.add(found.name)
            log.error("event=index_failed segment=%s reason=%r", found.name, str(error))
            return True
        with self._guard:
            self._segments = [(made if s is found else s, held) for s, held in self._segments]
            if made.name != found.name:
                self._retired.append(self.directory / "segments" / found.name)
                self._unlink_retired()
            self._guard.notify_all()
        return True

    def _expire(self) -> None:
        with self._guard:
            gone = expired([found for found, _ in self._segments], self.options.retention)
        if not gone:
            return
        names = {found.name for found in gone}
        self._catalogue.remove(names)
        log.info("event=retention segments=%d rows=%d", len(gone), sum(found.rows for found in gone))
        with self._guard:
            self._segments = [pair for pair in self._segments if pair[0].name not in names]
            self._retired += [self.directory / "segments" / name for name in names]
            self._unlink_retired()

    def _unlink_retired(self) -> None:
        if not self._readers:
            while self._retired:
                self._retired.pop().unlink(missing_ok=True)
