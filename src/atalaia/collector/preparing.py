"""Chunks of files -> one batch, ready to be delivered: stages, long lines, times out of range, sources."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector import pipeline
from atalaia.collector.entries import Entries, column
from atalaia.collector.lines import count, cut_long, valid_utf8
from atalaia.collector.meters import Meters
from atalaia.collector.outputs.sink import Delivery, Origin, Rows, Sink
from atalaia.collector.patience import Patience
from atalaia.collector.plan import Output, Plan
from atalaia.collector.reading.chunk import BLOCK, Chunk
from atalaia.collector.reading.tables import Planned
from atalaia.collector.reading.tail import Tail
from atalaia.store.batch import Source

_TENANT = "__tenant_id__"  # the label by which the tenant stage says whose an entry is


@dataclass(frozen=True, slots=True)
class Batch:
    """What is delivered at once; `epoch` counts how often the reader began again elsewhere.

    `planned`: what must be noted before it is sent, since it has to be the same when it is sent again.
    `newest`: the latest time of its entries (ns).
    """

    deliver: Delivery
    sources: tuple[Source, ...]
    epoch: int
    planned: tuple[Planned, ...] = ()
    newest: int | None = None


class Preparer:
    """Runs the stages. Used by the reading thread alone, since stages have state."""

    def __init__(self, plan: Plan, output: Output, meters: Meters, tell_once: Callable[[str, str, str], None]) -> None:
        """`tell_once` gets what happened, a file's path and the reason."""
        self._plan = plan
        self._output = output
        self._meters = meters
        self._tell_once = tell_once
        self._patience = Patience()

    def prepare(self, chunks: Sequence[tuple[Tail, Chunk]], sink: Sink, epoch: int) -> Batch | None:
        """None: everything waits for further lines."""
        parts, sources, origins, tenants, planned = [], [], [], [], []
        for tail, chunk in chunks:
            entries, end = self._entries(tail, chunk)
            if end == chunk.start:
                continue
            entries, tenant = self._tenants(entries if not sink.plans else _apart(entries, chunk.read_at))
            tenants.append(tenant)
            parts.append(entries.record_batch(self._output.external_labels))
            planned.append(Planned(chunk.known_id, chunk.start, end, chunk.read_at))
            sources.append(Source(chunk.known_id, chunk.start, end))
            origins.append(Origin(entries.first_lines, entries.last_lines, chunk.offset_of))
        if not parts:
            return None
        table = pa.Table.from_batches(parts).unify_dictionaries()
        rows = Rows(tuple(origins), _joined(tenants, [len(part) for part in parts]))
        # Sources of other tenants count rows, not bytes: the same lines must give the same rows again.
        if not sink.plans and rows.tenants is None:
            planned = []
        return Batch(sink.prepare(table, sources, rows), tuple(sources), epoch, tuple(planned), _newest(table))

    def _tenants(self, entries: Entries) -> tuple[Entries, pa.Array | None]:
        """The entries without the label that names their tenant, and each one's tenant (utf8; null: the output's)."""
        if _TENANT not in entries.labels:
            return entries, None
        tenants = column(entries.labels[_TENANT], len(entries))
        own = pc.is_in(tenants, pa.array(["", self._output.tenant or ""], pa.utf8()))
        labels = {name: value for name, value in entries.labels.items() if name != _TENANT}
        return replace(entries, labels=labels), pc.if_else(own, pa.scalar(None, pa.utf8()), tenants)

    def _entries(self, tail: Tail, chunk: Chunk) -> tuple[Entries, int]:
        """A chunk's entries behind all stages, and up to which byte of the file they go."""
        block, replaced = valid_utf8(chunk.block)
        if replaced:
            self._tell_once("not_utf8", tail.known.path, "invalid bytes became U+FFFD")
        flush = pipeline.ALL if chunk.flush else self._patience.waited(chunk, tail.job.patience)
        taken = pipeline.run(tail.job, block, chunk.read_at, tail.labels, flush)
        if (most := count(block)) > 2 * taken.lines and len(block) > BLOCK // 2:
            # What waits since so many lines is waited for no longer, or the same lines would be read for ever.
            taken = pipeline.run(tail.job, block, chunk.read_at, tail.labels, max(flush, most // 2 + 1))
        if not taken.lines and len(block) > BLOCK // 2:
            taken = pipeline.run(tail.job, block, chunk.read_at, tail.labels, pipeline.ALL)
        pipeline.settle(taken, self._meters)
        end = tail.hold(chunk, taken.lines)
        self._patience.settle(chunk, end)
        self._meters.count("promtail_read_bytes_total", end - chunk.start, path=tail.known.path)
        self._meters.count("promtail_read_lines_total", taken.lines, path=tail.known.path)
        lines, cut = cut_long(taken.entries.lines, self._plan.max_line_size)
        if cut or chunk.cut:
            self._tell_once("line_cut", tail.known.path, f"lines beyond {self._plan.max_line_size} bytes are cut there")
        entries = replace(taken.entries, lines=lines)
        return _in_range(entries, chunk.read_at, self._plan.clock_ahead), end


def _apart(entries: Entries, now: int) -> Entries:
    """Entries that have the time of reading, a nanosecond apart: to a Loki, equal lines of one time are one line."""
    mine = entries.ts == now
    return replace(entries, ts=entries.ts + np.where(mine, np.arange(len(entries)), 0)) if mine.any() else entries


def _newest(table: pa.Table) -> int | None:
    """The latest time of its entries (ns)."""
    found: int | None = pc.max(table.column("ts")).as_py()
    return found


def _joined(tenants: Sequence[pa.Array | None], counts: Sequence[int]) -> pa.Array | None:
    """The tenants of all parts; None when no row has one."""
    if all(part is None or part.null_count == len(part) for part in tenants):
        return None
    empty = [pa.nulls(count, pa.utf8()) for count in counts]
    return pa.concat_arrays([none if part is None else part for part, none in zip(tenants, empty, strict=True)])


def _in_range(entries: Entries, now: int, ahead: int) -> Entries:
    """Times before 1970 or over `ahead` ns in the future, which the store does not take, become the time of reading."""
    ts = entries.ts
    wrong = (ts < 0) | (ts > now + ahead)
    return replace(entries, ts=np.where(wrong, now, ts)) if wrong.any() else entries
