"""The collector: reads files, prepares batches, delivers them in order; positions move after acknowledgement.

Two threads: one reads, runs the stages and encodes, one pushes, so that the store works meanwhile. At most two
batches wait in between; while the sink is away nothing more is read, and the files keep what is not delivered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from atalaia.collector.meters import Meters
from atalaia.collector.outputs.sink import Sink, connect
from atalaia.collector.plan import Output, Plan
from atalaia.collector.preparing import Preparer
from atalaia.collector.pushing import Pusher, patiently
from atalaia.collector.reading.chunk import Chunk
from atalaia.collector.reading.files import Files
from atalaia.collector.reading.tail import Tail

log = logging.getLogger("atalaia.collector")
_IDLE = 0.15  # seconds between looks at quiet files
_PATIENCE = 5.0  # seconds that a stop waits for the sink


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
        self._preparer = Preparer(plan, self._output, self._meters, self._files.tell_once)
        self._pusher = Pusher(self._output)
        self._epoch = 0
        self._give_up_at: float | None = None
        self._stop = threading.Event()
        self._on_ready = on_ready

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stop.set()

    def run(self) -> None:
        """Collect until `stop`."""
        sink = patiently(self._connect, self._output, self._stop)
        stored = self._stored(sink) if sink is not None else None
        if sink is None or stored is None:
            self._files.close()
            return
        self._files.resume(stored)
        self._files.look()
        if self._on_ready:
            self._on_ready()
        log.info("event=collecting files=%d output=%s", len(self._files.tails), self._output.base)
        self._pusher.start()
        try:
            self._read_loop(sink)
            self._drain(sink)
        finally:
            self._pusher.stop()
            self._settle()
            self._files.close()
            sink.close()

    def _stored(self, sink: Sink) -> dict[str, int] | None:
        """Where the sink stands; None when stopped."""
        return patiently(lambda: sink.positions(self._files.known_ids()), self._output, self._stop)

    def _drain(self, sink: Sink) -> None:
        """Deliver what was written before the stop; what the sink does not take in time is left in the files."""
        self._files.look(everywhere=True)
        while not self._late():
            chunks = self._files.gather(flush=True)
            if chunks:
                self._offer(chunks, sink)
                self._settle()
            elif self._pusher.flying:
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
        while not self._stop.is_set():
            self._settle()
            self._files.look()
            chunks = self._files.gather()
            if chunks:
                self._offer(chunks, sink)
            elif self._pusher.flying:
                self._settle(wait=_IDLE)
            else:
                self._files.wait(_IDLE)

    def _offer(self, chunks: Sequence[tuple[Tail, Chunk]], sink: Sink) -> None:
        """Hand what was read to the pushing thread; waits while it has enough. Given up, it was the last one."""
        batch = self._preparer.prepare(chunks, sink, self._epoch)
        while batch is not None and not self._pusher.offer(batch, 0.2):
            if self._late():
                return
            self._settle()

    def _settle(self, wait: float = 0.0) -> None:
        """Take in what the pushing thread has finished."""
        while (done := self._pusher.done(wait)) is not None:
            wait = 0.0
            if done.batch.epoch != self._epoch:
                continue
            if done.answer.conflict is not None:
                self._rewind(done.answer.conflict)
                continue
            if done.answer.refused:
                log.warning("event=entries_refused reason=%r", done.answer.refused)
            for source in done.batch.sources:
                self._files.acknowledged(source.id, source.end)

    def _rewind(self, stands: Mapping[str, int]) -> None:
        """The store stands elsewhere (a push whose answer was lost, a store put back): go on from there."""
        log.info("event=resynchronised sources=%d", len(stands))
        self._epoch += 1
        self._files.rewind(stands)
