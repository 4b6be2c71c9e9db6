"""Chunks of files -> one batch, ready to be delivered: stages, long lines, times out of range, sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from atalaia.collector import pipeline
from atalaia.collector.entries import Entries
from atalaia.collector.lines import count, cut_long, valid_utf8
from atalaia.collector.meters import Meters
from atalaia.collector.outputs.sink import Delivery, Sink
from atalaia.collector.plan import Output, Plan
from atalaia.collector.reading.chunk import BLOCK, Chunk
from atalaia.collector.reading.tail import Tail
from atalaia.store.batch import Source


@dataclass(frozen=True, slots=True)
class Batch:
    """What is delivered at once; `epoch` counts how often the reader began again elsewhere."""

    deliver: Delivery
    sources: tuple[Source, ...]
    epoch: int


class Preparer:
    """Runs the stages. Used by the reading thread alone, since stages have state."""

    def __init__(self, plan: Plan, output: Output, meters: Meters, tell_once: Callable[[str, str, str], None]) -> None:
        """`tell_once` gets what happened, a file's path and the reason."""
        self._plan = plan
        self._output = output
        self._meters = meters
        self._tell_once = tell_once

    def prepare(self, chunks: Sequence[tuple[Tail, Chunk]], sink: Sink, epoch: int) -> Batch | None:
        """None: everything waits for further lines."""
        parts, sources = [], []
        for tail, chunk in chunks:
            entries, end = self._entries(tail, chunk)
            if end == chunk.start:
                continue
            parts.append(entries.record_batch(self._output.external_labels))
            sources.append(Source(chunk.known_id, chunk.start, end))
        if not parts:
            return None
        table = pa.Table.from_batches(parts).unify_dictionaries()
        return Batch(sink.prepare(table, sources), tuple(sources), epoch)

    def _entries(self, tail: Tail, chunk: Chunk) -> tuple[Entries, int]:
        """A chunk's entries behind all stages, and up to which byte of the file they go."""
        block, replaced = valid_utf8(chunk.block)
        if replaced:
            self._tell_once("not_utf8", tail.known.path, "invalid bytes became U+FFFD")
        taken = pipeline.run(tail.job, block, chunk.read_at, tail.labels, pipeline.ALL if chunk.flush else 0)
        if (most := count(block)) > 2 * taken.lines and len(block) > BLOCK // 2:
            # What waits since so many lines is waited for no longer, or the same lines would be read for ever.
            taken = pipeline.run(tail.job, block, chunk.read_at, tail.labels, most // 2 + 1)
        if not taken.lines and len(block) > BLOCK // 2:
            taken = pipeline.run(tail.job, block, chunk.read_at, tail.labels, pipeline.ALL)
        pipeline.settle(taken, self._meters)
        end = tail.hold(chunk, taken.lines)
        lines, cut = cut_long(taken.entries.lines, self._plan.max_line_size)
        if cut or chunk.cut:
            self._tell_once("line_cut", tail.known.path, f"lines beyond {self._plan.max_line_size} bytes are cut there")
        entries = replace(taken.entries, lines=lines)
        return _in_range(entries, chunk.read_at, self._plan.clock_ahead), end


def _in_range(entries: Entries, now: int, ahead: int) -> Entries:
    """Times before 1970 or over `ahead` ns in the future, which the store does not take, become the time of reading."""
    ts = entries.ts
    wrong = (ts < 0) | (ts > now + ahead)
    return replace(entries, ts=np.where(wrong, now, ts)) if wrong.any() else entries
