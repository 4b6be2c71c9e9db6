"""Group commit: one thread writes waiting pushes to the log, syncs once, and only then lets them be seen."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from atalaia.environment.errors import AtalaiaError
from atalaia.runtime.measures import Histogram
from atalaia.store.batch import Refused, Source, encode
from atalaia.store.memory import SCHEMA
from atalaia.store.space import Space
from atalaia.store.streams import Streams
from atalaia.store.wal import LogFile, Record

_GROUP_BYTES = 64 << 20
_SYNC_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class StoreUnavailable(AtalaiaError):
    """The store cannot take entries at the moment (disk full, stopping). Send the same push again later."""


@dataclass(frozen=True, slots=True)
class Appended:
    """The answer to a push: entries stored, entries refused, or for a repeated push where its sources stand."""

    rows: int
    refused: Refused | None = None
    conflict: Mapping[str, int] | None = None


@dataclass(slots=True)
class Push:
    """Entries that wait to be written. `payload` is their encoded form, when it is at hand."""

    table: pa.Table
    tenant: str
    sources: tuple[Source, ...]
    payload: bytes | None
    refused: Refused | None
    done: Future[Appended] = field(default_factory=Future)


def stored_batch(table: pa.Table, tenant: str, streams: Streams, seq: int) -> pa.RecordBatch:
    """Entries in transit -> rows of the memory table, numbered from `seq`."""
    whole = table.combine_chunks().unify_dictionaries()
    labels = whole.column("labels").combine_chunks()
    columns = [
        whole.column("ts").combine_chunks(),
        pa.array(np.arange(seq, seq + len(whole), dtype=np.int64)),
        streams.numbers(tenant, labels),
        whole.column("line").combine_chunks(),
        whole.column("metadata").combine_chunks(),
    ]
    return pa.RecordBatch.from_arrays(
        [c.chunk(0) if isinstance(c, pa.ChunkedArray) else c for c in columns], schema=SCHEMA
    )


class Committer:
    """Owns the log file being written, the sources' `positions` and the next `seq`; runs until `stop`."""

    def __init__(
        self,
        log: LogFile,
        seq: int,
        positions: dict[str, int],
        streams: Streams,
        space: Space,
        publish: Callable[[pa.RecordBatch, tuple[Source, ...]], None],
        tick: Callable[[], LogFile | None],
    ) -> None:
        """`publish` makes a durable batch visible; `tick` runs after each group and may give the next log file."""
        self.positions = positions
        self._log = log
        self.seq = seq
        self._streams = streams
        self._space = space
        self._publish = publish
        self._tick = tick
        self._queue: queue.SimpleQueue[Push | None] = queue.SimpleQueue()
        self._stopping = False
        self.syncs = Histogram(
            "atalaia_store_wal_append_seconds", "Writing a group of pushes to the log, with its fsync.", _SYNC_SECONDS
        )
        self._entrance = threading.Lock()  # nothing enters the queue once `stop` was said
        self.thread = threading.Thread(target=self._run, name="commit", daemon=True)
        self.thread.start()

    def submit(self, push: Push) -> Future[Appended]:
        """Hand over a push; its future is resolved once it is durable and visible."""
        # A caller that gives up (asyncio cancels what it wraps) must not settle a push that is being written.
        push.done.set_running_or_notify_cancel()
        with self._entrance:
            if self._stopping:
                push.done.set_exception(StoreUnavailable("the store is stopping", "send the push again later"))
            else:
                self._queue.put(push)
        return push.done

    def wake(self) -> None:
        """Run `tick` soon, even when nothing is pushed."""
        self._queue.put(None)

    def stop(self) -> None:
        """Write what waits, then end."""
        with self._entrance:
            self._stopping = True
            self._queue.put(None)
        self.thread.join()
        self._log.close()

    def _run(self) -> None:
        while True:
            group = self._next_group()
            if group:
                self._commit(group)
            elif self._stopping:
                return
            following = self._tick()
            if following is not None:
                self._log.close()
                self._log = following

    def _next_group(self) -> list[Push]:
        group: list[Push] = []
        size = 0
        try:
            item = self._queue.get(timeout=1.0)
            while True:
                if item is not None:
                    group.append(item)
                    size += len(item.payload) if item.payload else item.table.nbytes
                if size >= _GROUP_BYTES:
                    break
                item = self._queue.get_nowait()
        except queue.Empty:
            pass
        return group

    def _commit(self, group: list[Push]) -> None:
        shortage = self._space.shortage()
        if shortage is not None:
            remedy = "free disk space, or lower [logs.limits] disk_floor; pushes are taken again then"
            for push in group:
                push.done.set_exception(StoreUnavailable(str(shortage), remedy))
            return
        ahead: dict[str, int] = {}
        writing: list[tuple[Push, Record, pa.RecordBatch]] = []
        seq = self.seq
        for push in group:
            standing = {s.id: ahead.get(s.id, self.positions.get(s.id, s.start)) for s in push.sources}
            if any(standing[s.id] != s.start for s in push.sources):
                push.done.set_result(Appended(0, None, standing))
                continue
            try:
                batch = stored_batch(push.table, push.tenant, self._streams, seq)
                payload = push.payload if push.payload is not None else encode(push.table)
            except Exception as error:  # noqa: BLE001 - this push alone fails; the thread must go on
                push.done.set_exception(error)
                continue
            ahead.update({s.id: s.end for s in push.sources})
            writing.append((push, Record(seq, push.tenant, push.sources, payload), batch))
            seq += len(batch)
        if not writing:
            return
        begun = time.perf_counter()
        try:
            self._log.append([record for _, record, _ in writing])
            self.syncs.observe(time.perf_counter() - begun)
        except Exception as error:  # noqa: BLE001 - these pushes fail; the thread must go on
            for push, _, _ in writing:
                push.done.set_exception(
                    StoreUnavailable(
                        f"the write-ahead log cannot be written: {error}",
                        "free disk space; pushes are taken again then",
                    )
                )
            return
        self.seq = seq
        self.positions.update(ahead)
        for push, _, batch in writing:
            self._publish(batch, push.sources)
            push.done.set_result(Appended(len(batch), push.refused))
