"""A run that sends nothing: what would be sent is handed to a function, and no position moves (`--dry-run`)."""

from __future__ import annotations

import os
import select
import shutil
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
from atalaia.collector.meters import Meters
from atalaia.collector.outputs.sink import Answer, Delivery, Rows
from atalaia.collector.plan import Job, Plan
from atalaia.collector.reading.chunk import BLOCK
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
    with tempfile.TemporaryDirectory(prefix="atalaia-dry-run-") as folder:
        place = Path(folder) / plan.positions.name
        if plan.positions.parent.is_dir():
            for path in plan.positions.parent.glob(f"{_literal(plan.positions.name)}*"):
                if path.is_file():
                    shutil.copy2(path, folder)
        yield replace(plan, positions=place)


def _literal(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def dry_run(plan: Plan, show: Shown) -> Collector:
    """A collector of the plan that shows what it would send; the plan is a borrowed one."""
    return Collector(plan, connector=lambda: _Shower(show))


def stdin_run(plan: Plan, show: Shown, descriptor: int, stop: threading.Event) -> None:
    """Send the lines of a descriptor through the first job and show what comes out, until its end or a stop."""
    job, meters = plan.jobs[0], Meters()
    labels = dict(job.targets[0].labels)
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
