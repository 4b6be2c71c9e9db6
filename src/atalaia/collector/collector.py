"""The collector: reads files, prepares batches, delivers them in order; positions move after acknowledgement.

Two threads: one reads, runs the stages and encodes, one pushes, so that the store works meanwhile. At most two
batches wait in between; while the sink is away nothing more is read, and the files keep what is not delivered.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from atalaia.collector.lagging import Standing
from atalaia.collector.meters import Meters
from atalaia.collector.outputs.connect import connect
from atalaia.collector.outputs.sink import Sink
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
        sent: Meters | None = None,
    ) -> None:
        """`connector` gives the sink or raises Unreachable (default: by the output, the plan's first one).

        `on_ready` is called once files are about to be read. `meters` counts what is read and what stages do, `sent`
        what the output takes (default: the same).
        """
        self._plan = plan
        self._output = output or plan.outputs[0]
        self._meters = meters or Meters()
        self._sent = sent or self._meters
        self._connect = connector or (lambda: connect(self._output, self._sent))
        self._files = Files(plan)
        self._preparer = Preparer(plan, self._output, self._meters, self._files.tell_once)
        self._pusher = Pusher(self._output)
        self._sink: Sink | None = None
        self._linger_until = 0.0  # few lines wait for more until then
        self._epoch = 0
        self._give_up_at: float | None = None
        self._stop = threading.Event()
        self._on_ready = on_ready
        self._listens = any(job.listen is not None for job in plan.jobs)
        self.spooled: dict[str, int] = {}  # what is acknowledged of the spools' segments, by path; made anew each time

    def standing(self) -> list[Standing]:
        """The files that are read now, and up to where they are acknowledged. May be called from any thread."""
        tails = list(self._files.tails.by_key.values())  # one step, which no other thread can come between
        return [
            Standing(
                tail.known.id,
                tail.known.path,
                tail.job.name,
                tail.known.offset,
                tail.known.identity,
                tail.kind is not None,
            )
            for tail in tails
            if not tail.fresh
        ]

    def stop(self) -> None:
        """Ask `run` to end."""
        self._stop.set()

    def close(self) -> None:
        """Close what was opened, in place of `run`."""
        self._files.close()

    def run(self) -> None:
        """Collect until `stop`."""
        try:
            # What is there now is held, though nothing is read yet: it may be rotated before the sink can be reached.
            self._files.look()
            stored = self._reach()
            if stored is not None:
                self._follow(stored)
        finally:
            self._files.close()
            if self._sink is not None:
                self._sink.close()

    def _follow(self, stored: dict[str, int]) -> None:
        """Read on from where the sink stands."""
        self._files.resume(stored)
        if stored:
            self._files.rewind(stored)
        self._files.look()
        self._publish()
        if self._on_ready:
            self._on_ready()
        log.info("event=collecting files=%d output=%s", len(self._files.tails), self._output.base)
        self._pusher.start()
        try:
            self._read_loop()
            self._drain()
        finally:
            self._pusher.stop()
            self._settle()

    def _reach(self) -> dict[str, int] | None:
        """Connect, and ask where the sink stands; None when stopped."""
        sink = patiently(self._connect, self._output, self._stop, self._files.look)
        if sink is None:
            return None
        stored = patiently(lambda: sink.positions(self._files.known_ids()), self._output, self._stop, self._files.look)
        if stored is None:
            sink.close()
            return None
        if self._sink is not None:
            self._sink.close()
        self._sink = sink
        return stored

    def _drain(self) -> None:
        """Deliver what was written before the stop; what the sink does not take in time is left in the files."""
        self._files.look(everywhere=True)
        while not self._late():
            chunks = self._files.gather(flush=True)
            if chunks:
                self._offer(chunks)
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

    def _read_loop(self) -> None:
        while not self._stop.is_set():
            self._settle()
            self._files.look()
            chunks = self._files.gather() if time.monotonic() >= self._linger_until else []
            if chunks:
                self._offer(chunks)
            elif self._pusher.flying:
                self._settle(wait=_IDLE)
            else:
                self._files.wait(_IDLE)

    def _offer(self, chunks: Sequence[tuple[Tail, Chunk]]) -> None:
        """Hand what was read to the pushing thread; waits while it has enough. Given up, it was the last one."""
        assert self._sink is not None, "reached before anything is read"
        if self._sink.linger and sum(len(chunk.block) for _, chunk in chunks) < self._output.batch_size:
            self._linger_until = time.monotonic() + self._sink.linger
        batch = self._preparer.prepare(chunks, self._sink, self._epoch)
        if batch is None:
            return
        while batch.planned and not self._files.plan(batch.planned):
            if self._late():
                return
            self._stop.wait(_IDLE)
        while not self._pusher.offer(batch, 0.2):
            if self._late():
                return
            self._settle()

    def _settle(self, wait: float = 0.0) -> None:
        """Take in what the pushing thread has finished."""
        while (done := self._pusher.done(wait)) is not None:
            wait = 0.0
            if done.batch.epoch != self._epoch:
                continue
            if done.answer.changed:
                self._change_sink()
                continue
            if done.answer.conflict is not None:
                self._rewind(done.answer.conflict)
                continue
            if done.answer.refused:
                log.warning("event=entries_refused reason=%r", done.answer.refused)
            for source in done.batch.sources:
                self._files.acknowledged(source.id, source.end)
            if done.batch.newest is not None:
                self._sent.lagged(self._output.base, done.batch.newest)
            self._publish()

    def _publish(self) -> None:
        if self._listens:
            tails = [tail for tail in self._files.tails if tail.job.listen is not None and not tail.fresh]
            self.spooled = {tail.known.path: tail.known.offset for tail in tails}

    def _change_sink(self) -> None:
        """Another kind of server answers now: it is asked where it stands, and gets what is not acknowledged."""
        log.warning("event=server_changed output=%s", self._output.base)
        self._rewind(self._reach() or {})

    def _rewind(self, stands: Mapping[str, int]) -> None:
        """The store stands elsewhere (a push whose answer was lost, a store put back): go on from there."""
        log.info("event=resynchronised sources=%d", len(stands))
        self._epoch += 1
        self._files.rewind(stands)
