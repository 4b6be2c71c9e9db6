"""The pushing thread: delivers one batch after the other, and waits for a sink that is away as long as it takes."""

from __future__ import annotations

import logging
import queue
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from atalaia.collector.outputs.sink import Answer, Unreachable
from atalaia.collector.plan import Output
from atalaia.collector.preparing import Batch

log = logging.getLogger("atalaia.collector")
_AHEAD = 2  # batches that wait to be pushed
_NEWS = 2.0  # seconds without the sink before that is told
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Done:
    """A batch that is settled."""

    batch: Batch
    answer: Answer


class Pusher:
    """Delivers batches in the order in which they were offered. `flying`: batches that are not taken in yet."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._batches: queue.Queue[Batch] = queue.Queue(_AHEAD)
        self._done: queue.SimpleQueue[Done] = queue.SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="push", daemon=True)
        self.flying = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what is not delivered stays in the files."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10)

    def offer(self, batch: Batch, timeout: float) -> bool:
        """Hand a batch over; False when there are enough already after `timeout` seconds."""
        try:
            self._batches.put(batch, timeout=timeout)
        except queue.Full:
            return False
        self.flying += 1
        return True

    def done(self, wait: float = 0.0) -> Done | None:
        """The next settled batch; None when there is none within `wait` seconds."""
        try:
            found = self._done.get(timeout=wait) if wait else self._done.get_nowait()
        except queue.Empty:
            return None
        self.flying -= 1
        return found

    def _run(self) -> None:
        broken = -1
        while True:
            try:
                batch = self._batches.get(timeout=0.1)
            except queue.Empty:
                if self._stop.is_set():
                    return
                continue
            # Batches behind a conflict, or for another kind of server, were read from the wrong place.
            if batch.epoch <= broken:
                self._done.put(Done(batch, Answer()))
                continue
            answer = patiently(batch.deliver, self._output, self._stop)
            if answer is None:
                return
            if answer.conflict is not None or answer.changed:
                broken = batch.epoch
            self._done.put(Done(batch, answer))


def patiently(
    action: Callable[[], T],
    output: Output,
    stop: threading.Event,
    meanwhile: Callable[[], object] = lambda: None,
) -> T | None:
    """Do it again until the sink can be reached, and `meanwhile` between two attempts; None when stopped.

    Told once when it has failed for a while (a store that restarts is no news), and once when it works again.
    """
    delay = output.min_backoff
    failing = False
    began = time.monotonic()
    while not stop.is_set():
        try:
            result = action()
        except Unreachable as error:
            if not failing and time.monotonic() - began > _NEWS:
                log.warning("event=sink_unreachable reason=%r", str(error))
                failing = True
            meanwhile()
            # Collectors that lost the same server do not come back to it in one moment.
            wait = delay * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret
            stop.wait(max(wait, error.retry_after or 0.0))
            delay = min(delay * 2, output.max_backoff)
        else:
            if failing:
                log.info("event=sink_back")
            return result
    return None
