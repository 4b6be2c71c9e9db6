"""The collector: reads files, prepares batches, delivers them in order; positions move after acknowledgement.

Two threads: one reads, runs the stages and encodes, one pushes, so that the store works meanwhile. At most `_AHEAD`
batches are in between; while the sink is away nothing more is read, and the files keep what is not delivered.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import pyarrow as pa

from atalaia.collector import pipeline
from atalaia.collector.entries import Entries
from atalaia.collector.lines import count, cut_long, valid_utf8
from atalaia.collector.meters import Meters
from atalaia.collector.outputs.sink import Answer, Delivery, Sink, Unreachable, connect
from atalaia.collector.plan import Output, Plan
from atalaia.collector.reading.files import Files
from atalaia.collector.reading.tail import BLOCK, Chunk, Tail
from atalaia.store.batch import Source

log = logging.getLogger("atalaia.collector")
_AHEAD = 2
_IDLE = 0.15  # seconds between looks at quiet files
_PATIENCE = 5.0  # seconds that a stop waits for the sink
_NEWS = 2.0  # seconds without the sink before that is told
_DISCOVER = 1.0  # seconds between looks for new files
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Batch:
    deliver: Delivery
    sources: tuple[Source, ...]
    epoch: int


@dataclass(frozen=True, slots=True)
class _Done:
    batch: _Batch
    answer: Answer


class Collector:
    """One run of a plan towards one output. `run` returns when `stop` is set and what was in flight is settled."""

    def __init__(
        self,
        plan: Plan,
        connector: Callable[[], Sink] | None = None,
        on_ready: Callable[[], None] | None = None,
        output: Output | None = None,
        meters: Meters | None = None,
    ) -> None:
        """`connector` gives the sink or raises Unreachable (default: by the output, the plan's first one).

        `on_ready` is called once files are about to be read.
        """
        self._plan = plan
        self._output = output or plan.outputs[0]
        self._meters = meters or Meters()
        self._connect = connector or (lambda: connect(self._output))
        self._files = Files(plan)
        self._batches: queue.Queue[_Batch] = queue.Queue(_AHEAD)
        self._done: queue.SimpleQueue[_Done] = queue.SimpleQueue()
        self._epoch = 0
        self._flying = 0
        self._give_up_at: float | None = None
        self._stop = threading.Event()
        self._hard_stop = threading.Event()
        self._on_ready = on_ready

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stop.set()

    def run(self) -> None:
        """Collect until `stop`."""
        sink = self._patiently(self._connect)
        stored = self._patiently(lambda: sink.positions(self._files.known_ids())) if sink else None
        if sink is None or stored is None:
            self._files.close()
            return
        self._files.resume(stored)
        self._files.discover()
        if self._on_ready:
            self._on_ready()
        log.info("event=collecting files=%d output=%s", len(self._files.tails), self._output.base)
        pusher = threading.Thread(target=self._push_loop, name="push", daemon=True)
        pusher.start()
        try:
            self._read_loop(sink)
            self._drain(sink)
        finally:
            self._hard_stop.set()
            pusher.join(10)
            self._settle()
            self._files.close()
            sink.close()

    def _drain(self, sink: Sink) -> None:
        """Deliver what was written before the stop; what the sink does not take in time is left in the files."""
        self._files.discover()
        while not self._late():
            chunks = self._gather()
            if chunks:
                self._offer(self._prepare(chunks, sink))
                self._settle()
            elif self._flying:
                self._settle(wait=0.05)
            else:
                return

    def _late(self) -> bool:
        """Whether a stop was asked for and has waited long enough for the sink."""
        if not self._stop.is_set():
            return False
        if self._give_up_at is None:
            self._give_up_at = time.monotonic() + _PATIENCE
        return time.monotonic() >= self._give_up_at

    def _read_loop(self, sink: Sink) -> None:
        discovered = time.monotonic()
        while not self._stop.is_set():
            self._settle()
            if time.monotonic() - discovered > _DISCOVER:
                self._files.discover()
                discovered = time.monotonic()
            chunks = self._gather()
            if chunks:
                self._offer(self._prepare(chunks, sink))
            elif self._flying:
                self._settle(wait=_IDLE)
            else:
                self._files.save()
                self._stop.wait(_IDLE)

    def _gather(self) -> list[tuple[Tail, Chunk]]:
        """What is new in the files, a block at most, each file in its turn."""
        chunks: list[tuple[Tail, Chunk]] = []
        left = BLOCK
        for tail in list(self._files.tails.values()):
            if self._files.check(tail):
                self._files.save()  # its new id, before the first byte is sent under it
            chunk = tail.read(max(left, 1 << 16), self._files.final(tail), self._stop.is_set())
            if chunk is not None:
                chunks.append((tail, chunk))
                left -= len(chunk.block)
            if left <= 0:
                break
        if chunks:
            # The file that was served last begins the next round's queue: none waits for a busy one.
            for tail, _ in chunks:
                self._files.tails[tail.known.identity] = self._files.tails.pop(tail.known.identity)
        return chunks

    def _prepare(self, chunks: Sequence[tuple[Tail, Chunk]], sink: Sink) -> _Batch | None:
        """None: everything waits for further lines."""
        parts, sources = [], []
        for tail, chunk in chunks:
            block, replaced = valid_utf8(chunk.block)
            if replaced:
                self._files.tell_once("not_utf8", tail.known.path, "invalid bytes became U+FFFD")
            taken = pipeline.run(tail.job, block, chunk.read_at, tail.labels, pipeline.ALL if chunk.flush else 0)
            if (most := count(block)) > 2 * taken.lines and len(block) > BLOCK // 2:
                # What waits since so many lines is waited for no longer, or the same lines would be read for ever.
                taken = pipeline.run(tail.job, block, chunk.read_at, tail.labels, most // 2 + 1)
            if not taken.lines and len(block) > BLOCK // 2:
                taken = pipeline.run(tail.job, block, chunk.read_at, tail.labels, pipeline.ALL)
            pipeline.settle(taken, self._meters)
            end = tail.hold(chunk, taken.lines)
            if end == chunk.start:
                continue
            entries = taken.entries
            lines, cut = cut_long(entries.lines, self._plan.max_line_size)
            if cut or chunk.cut:
                self._files.tell_once(
                    "line_cut",
                    tail.known.path,
                    f"lines beyond {self._plan.max_line_size} bytes are cut there",
                )
            entries = _in_range(replace(entries, lines=lines), chunk.read_at, self._plan.clock_ahead)
            parts.append(entries.record_batch(self._output.external_labels))
            sources.append(Source(chunk.known_id, chunk.start, end))
        if not parts:
            return None
        table = pa.Table.from_batches(parts).unify_dictionaries()
        return _Batch(sink.prepare(table, sources), tuple(sources), self._epoch)

    def _offer(self, batch: _Batch | None) -> None:
        """Hand a batch to the pushing thread; waits while it has enough. Given up, it was the last one."""
        while batch is not None:
            try:
                self._batches.put(batch, timeout=0.2)
                self._flying += 1
                return
            except queue.Full:
                if self._late():
                    return
                self._settle()

    def _settle(self, wait: float = 0.0) -> None:
        """Take in what the pushing thread has finished."""
        while True:
            try:
                done = self._done.get(timeout=wait) if wait else self._done.get_nowait()
            except queue.Empty:
                return
            wait = 0.0
            self._flying -= 1
            if done.batch.epoch != self._epoch:
                continue
            by_id = {tail.known.id: tail for tail in self._files.tails.values()}
            if done.answer.conflict is not None:
                self._rewind(by_id, done.answer.conflict)
                continue
            if done.answer.refused:
                log.warning("event=entries_refused reason=%r", done.answer.refused)
            for source in done.batch.sources:
                if source.id in by_id:
                    self._files.acknowledged(by_id[source.id], source.end)

    def _rewind(self, by_id: dict[str, Tail], stands: Mapping[str, int]) -> None:
        """The store stands elsewhere (a push whose answer was lost, a store put back): go on from there."""
        log.info("event=resynchronised sources=%d", len(stands))
        self._epoch += 1
        for key, tail in by_id.items():
            if key in stands:
                self._files.acknowledged(tail, stands[key])
            tail.rewind(tail.known.offset)

    # -- the pushing thread

    def _push_loop(self) -> None:
        broken = -1
        while True:
            try:
                batch = self._batches.get(timeout=0.1)
            except queue.Empty:
                if self._hard_stop.is_set():
                    return
                continue
            # Batches behind a conflict were read from the wrong place.
            if batch.epoch <= broken:
                self._done.put(_Done(batch, Answer()))
                continue
            answer = self._patiently(batch.deliver, self._hard_stop)
            if answer is None:
                return
            if answer.conflict is not None:
                broken = batch.epoch
            self._done.put(_Done(batch, answer))

    def _patiently(self, action: Callable[[], T], stop: threading.Event | None = None) -> T | None:
        """Do it again until the sink can be reached; None when stopped.

        Told once when it has failed for a while (a store that restarts is no news), and once when it works again.
        """
        stop = stop or self._stop
        delay = self._output.min_backoff
        failing = False
        began = time.monotonic()
        while not stop.is_set():
            try:
                result = action()
            except Unreachable as error:
                if not failing and time.monotonic() - began > _NEWS:
                    log.warning("event=sink_unreachable reason=%r", str(error))
                    failing = True
                stop.wait(delay)
                delay = min(delay * 2, self._output.max_backoff, 5.0)
            else:
                if failing:
                    log.info("event=sink_back")
                return result
        return None


def _in_range(entries: Entries, now: int, ahead: int) -> Entries:
    """Times before 1970 or over `ahead` ns in the future, which the store does not take, become the time of reading."""
    ts = entries.ts
    wrong = (ts < 0) | (ts > now + ahead)
    return replace(entries, ts=np.where(wrong, now, ts)) if wrong.any() else entries
