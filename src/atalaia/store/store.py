"""The log store: open it, push entries, take snapshots to read, close it. Safe to use from any thread."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa

from atalaia.store import recovery, segment
from atalaia.store.batch import Source, keep_valid
from atalaia.store.commit import Appended, Committer, Push, StoreUnavailable
from atalaia.store.decide import LineCondition
from atalaia.store.deletion import Deletion
from atalaia.store.maintenance import House, Maintenance
from atalaia.store.memory import MemoryTable
from atalaia.store.options import Options, State
from atalaia.store.segment import Made
from atalaia.store.shelf import Shelf
from atalaia.store.snapshot import Snapshot, memory_part
from atalaia.store.space import Space
from atalaia.store.wal import LogFile, wal_bytes

log = logging.getLogger("atalaia.store")
Listener = Callable[[pa.RecordBatch, Collection[int]], None]
"""Told each batch (`memory.SCHEMA`) and its streams once it can be queried, in order of `seq`, in the commit thread."""
_BURST = 8  # a memory table fuller than one part in so many is written early once nothing comes any more
_FROZEN_MOST = 2  # full memory tables that may wait for their segment before pushes wait too


class Store:
    """One open store directory."""

    def __init__(self, directory: Path, options: Options | None = None) -> None:
        """Open or create. Raises AtalaiaError when another process has it, or it cannot be read."""
        self.options = options or Options()
        self.directory = directory
        self.space = Space(directory, self.options.disk_floor)
        with recovery.opening(directory), ExitStack() as undo:
            self._lock_descriptor = recovery.lock(directory)
            undo.callback(os.close, self._lock_descriptor)
            self._catalogue = recovery.open_catalogue(directory)
            undo.callback(self._catalogue.close)
            self.streams = self._catalogue.load_streams()
            found = recovery.recover(directory, self._catalogue, self.streams)
            log_file = LogFile(recovery.log_path(directory, found.tables[-1].generation))
            undo.pop_all()
        self.recovered = found
        # Reentrant: shelf and memory change and are seen together.
        self._guard = threading.Condition(threading.RLock())
        self._shelf = Shelf(directory / "segments", found.segments, found.damaged, self._guard)
        self._numbers = itertools.count(self._catalogue.number + 1)
        self._memory = found.tables.pop()
        self._frozen = found.tables
        self._visible = found.seq  # one more than the last entry that can be queried
        self.listener: Listener | None = None
        """At most one, which must neither wait nor fail."""
        self._flush_wanted = False
        self._stopping = False
        self._closing = False
        self._failure: str | None = None
        # The segment of the oldest frozen table, when its file is written and the catalogue could not be.
        self._unrecorded: Made | None = None
        self._written = time.monotonic()
        self._committer = Committer(
            log_file, found.seq, found.positions, self.streams, self.space, self._publish, self._rotate
        )
        self.syncs = self._committer.syncs
        house = House(
            self._catalogue, self._shelf, self.streams, self.space, self._numbers, self.options.retention,
            self._idle, self._oldest_in_memory,
        )  # fmt: skip
        self._maintenance = Maintenance(house, self.options.idle_seconds)
        # What an unfinished deletion hides in memory must become a segment before it can be removed.
        self._flush_wanted = bool(self._maintenance.deletions)
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
        with ExitStack() as reading:
            with self._guard:
                parts = reading.enter_context(self._shelf.reading())
                memory = tuple(memory_part(table) for table in (*self._frozen, self._memory) if table.rows)
                deletions, seq = self._maintenance.deletions, self._visible
            yield Snapshot(tuple(part.without(deletions) for part in (*parts, *memory)), self.streams, seq)

    @property
    def settled(self) -> bool:
        """Whether nothing is left to be compacted or removed for now."""
        with self._guard:
            quiet = not self._frozen and self._memory.size < self.options.flush_bytes // _BURST
        return quiet and self._maintenance.settled

    def state(self) -> State:
        """How it is at this moment."""
        with self._guard:
            segments = self._shelf.segments
            memory = [table.rows for table in (*self._frozen, self._memory)]
        return State(
            self.settled, len(segments), sum(found.rows for found in segments) + sum(memory),
            sum(found.size + found.index_size for found in segments), sum(found.line_bytes for found in segments),
            sum(memory), len(self.streams), self._shelf.damaged, wal_bytes(self.directory),
            sum(found.level == 0 for found in segments),
        )  # fmt: skip

    def trouble(self) -> str | None:
        """Why pushes cannot be taken at the moment; None when they can."""
        if self._stopping:
            return "the store is stopping"
        return str(self.space.shortage() or "") or self._failure

    def threads(self) -> dict[str, bool]:
        """The threads by name, and whether they run."""
        threads = self._committer.thread, self._flusher, self._maintenance.thread
        return {thread.name: thread.is_alive() for thread in threads}

    def delete(
        self, tenant: str, query: str, start: int, end: int, streams: np.ndarray, conditions: tuple[LineCondition, ...]
    ) -> Deletion:
        """Hide the entries of `streams` in [start, end) ns that pass all conditions, and remove them from the files.

        Entries that come later stay. Returns once they are hidden for good.
        """
        found = self._maintenance.delete(
            Deletion(0, tenant, query, start, end, self._committer.seq - 1, streams, conditions, int(time.time()))
        )
        with self._guard:
            self._flush_wanted = True
        self._committer.wake()
        return found

    def deletions(self) -> list[Deletion]:
        """The record of all deletions, oldest first."""
        return self._catalogue.deletions()

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
        self._maintenance.stop()
        self._catalogue.close()
        os.close(self._lock_descriptor)

    # -- called by the commit thread

    def _publish(self, batch: pa.RecordBatch, sources: tuple[Source, ...]) -> None:
        with self._guard:
            if not self._memory.rows:
                self._memory.born = time.monotonic()
            streams = self._memory.add(batch, sources)
            self._memory.touched = time.monotonic()
            self._visible += len(batch)
        listener = self.listener
        if listener is not None and len(batch):
            listener(batch, streams)

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
        while True:
            with self._guard:
                self._guard.wait_for(lambda: bool(self._frozen) or self._closing, timeout=self.options.idle_seconds)
                table = self._frozen[0] if self._frozen else None
                if table is None and self._closing:
                    return
            if table is None:
                self._flush_when_quiet()
                continue
            try:
                self._make_segment(table)
                self._failure = None
            except Exception as error:  # noqa: BLE001 - the thread must go on; the entries are safe in the log
                log.error("event=segment_failed generation=%d reason=%r", table.generation, str(error))
                with self._guard:
                    self._failure = str(error)
                    self._guard.notify_all()
                    if self._closing:
                        return
                    self._guard.wait_for(lambda: self._closing, timeout=1.0)

    def _make_segment(self, table: MemoryTable) -> None:
        if table.rows and self._unrecorded is None:
            self._unrecorded = segment.write(table.batches, self.streams, next(self._numbers), self._shelf.folder)
        made = self._unrecorded
        self._catalogue.add(made, self.streams, table.sources, table.generation)
        self._unrecorded = None
        with self._guard:
            self._frozen.remove(table)
            self._shelf.replace((), [made] if made else ())
            self._guard.notify_all()
        self._written = time.monotonic()
        recovery.log_path(self.directory, table.generation).unlink(missing_ok=True)
        self._maintenance.wake()

    def _flush_when_quiet(self) -> None:
        """What a burst has left in memory becomes a segment too; a trickle waits for its age."""
        with self._guard:
            quiet = time.monotonic() - self._memory.touched >= self.options.idle_seconds
            if self._closing or not quiet or self._memory.size < self.options.flush_bytes // _BURST:
                return
            self._flush_wanted = True
        self._committer.wake()

    # -- asked by the maintenance thread

    def _idle(self) -> bool:
        return not self._frozen and time.monotonic() - self._written >= self.options.idle_seconds

    def _oldest_in_memory(self) -> int:
        with self._guard:
            firsts = [table.first_seq for table in (*self._frozen, self._memory) if table.rows]
        return min(firsts, default=2**63 - 1)
