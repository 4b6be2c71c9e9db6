"""A run that sends nothing: what would be sent is handed to a function, and no position moves (`--dry-run`)."""

from __future__ import annotations

import os
import select
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from atalaia.collector import pipeline
from atalaia.collector.collector import Collector
from atalaia.collector.lines import cut_long, valid_utf8
from atalaia.collector.listeners.opening import Listening, listening
from atalaia.collector.meters import Meters
from atalaia.collector.outputs.sink import Answer, Delivery, Rows
from atalaia.collector.plan import Job, Plan
from atalaia.collector.reading import tables
from atalaia.collector.reading.chunk import BLOCK
from atalaia.collector.reading.positions import Positions
from atalaia.store.batch import Source

# Gets what would be sent, in the store's transit schema (store.batch.SCHEMA).
Shown = Callable[[pa.Table], None]


class _Shower:
    """A Sink that shows what it gets."""

    def __init__(self, show: Shown) -> None:
        self._show = show

    def positions(self, ids: Sequence[str]) -> dict[str, int]:
        """See Sink."""
        return {}

    @property
    def plans(self) -> bool:
        """See Sink."""
        return False

    @property
    def linger(self) -> float:
        """See Sink."""
        return 0.0

    def prepare(self, batch: pa.Table, sources: Sequence[Source], rows: Rows) -> Delivery:
        """See Sink."""

        def deliver() -> Answer:
            self._show(batch)
            return Answer()

        return deliver

    def close(self) -> None:
        """See Sink."""


@contextmanager
def borrowed(plan: Plan) -> Iterator[Plan]:
    """The plan with a copy of its positions, which is gone at the end."""
    known, _ = tables.load(plan.positions) if plan.positions.exists() else ({}, {})
    with tempfile.TemporaryDirectory(prefix="atalaia-dry-run-") as folder:
        place = Path(folder) / "positions"
        copy = Positions(place)
        for one in known.values():
            copy.put(one)
        copy.save()
        copy.close()
        jobs = tuple(listening(job, job.listen, place) if job.listen else job for job in plan.jobs)
        yield replace(plan, positions=place, jobs=jobs)


class DryRun:
    """A collector of a (borrowed) plan that shows what it would send; its listeners listen."""

    def __init__(self, plan: Plan, show: Shown) -> None:
        """Raises InputError: positions, spools."""
        meters = Meters()
        self._listening = Listening(plan, meters)
        self._collector = Collector(plan, connector=lambda: _Shower(show), meters=meters)

    def run(self) -> None:
        """Until `stop`. Raises InputError when a listener cannot listen."""
        self._listening.start()
        try:
            self._collector.run()
        finally:
            self._listening.stop()

    def stop(self) -> None:
        """Ask `run` to end."""
        self._collector.stop()


def stdin_run(plan: Plan, show: Shown, descriptor: int, stop: threading.Event) -> None:
    """Send the lines of a descriptor through the first job and show what comes out, until its end or a stop."""
    job, meters = replace(plan.jobs[0], format="plain"), Meters()
    labels = dict(plan.stdin or {})
    waiting = b""
    while not stop.is_set():
        ready, _, _ = select.select([descriptor], [], [], job.patience)
        data = os.read(descriptor, BLOCK) if ready else b""
        if ready and not data:
            break
        waiting += data
        end = waiting.rfind(b"\n") + 1
        if end:
            # Without news for so long, what waits for further lines is complete.
            taken = _show(plan, job, waiting[:end], labels, meters, show, 0 if ready else pipeline.ALL)
            waiting = waiting[taken:]
    if waiting:
        _show(plan, job, waiting if waiting.endswith(b"\n") else waiting + b"\n", labels, meters, show, pipeline.ALL)


def _show(plan: Plan, job: Job, block: bytes, labels: dict[str, str], meters: Meters, show: Shown, flush: int) -> int:
    """Show what comes of whole lines; how many bytes were taken of them."""
    text, _ = valid_utf8(block)
    taken = pipeline.run(job, text, time.time_ns(), labels, flush)
    pipeline.settle(taken, meters)
    lines, _ = cut_long(taken.entries.lines, plan.max_line_size)
    entries = replace(taken.entries, lines=lines)
    if len(entries):
        show(pa.Table.from_batches([entries.record_batch(plan.outputs[0].external_labels)]))
    # Invalid bytes become others, but no newline: lines are counted in what was read.
    position = 0
    for _ in range(taken.lines):
        position = block.index(b"\n", position) + 1
    return position
