"""One tail: what was stored when it began, then what is committed from then on, each entry once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from atalaia.environment.errors import AtalaiaError
from atalaia.logql import rows
from atalaia.logql.entry import Entry
from atalaia.logql.select import matcher_tests
from atalaia.logql.tree import LogQuery
from atalaia.query.execute import Executor
from atalaia.query.fetch import Found
from atalaia.query.ranges import Tenants
from atalaia.query.ticket import QueryNeedsMemory, Ticket
from atalaia.store.store import Store
from atalaia.store.streams import Stream

_MOST_BYTES = 64 << 20  # of batches that wait for the pipeline
_MOST_ROWS = 20_000  # that are taken at once, so that what was found is told soon
_MOST_DROPPED = 1000  # that are named; of more, the first
_FEW = 1000  # rows for which Python is faster than preparing SQL
_LAST = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Question:
    """What is followed, and of which tenants."""

    query: LogQuery
    tenants: Tenants


@dataclass(frozen=True, slots=True)
class Dropped:
    """An entry that was not told: its stream's labels and its time (ns)."""

    labels: Mapping[str, str]
    ts: int


@dataclass(frozen=True, slots=True)
class Arrived:
    """An entry that passed, and its number, by which entries of one time are ordered."""

    entry: Entry
    seq: int


Batches = list[tuple[pa.RecordBatch, set[int] | None]]
"""Committed batches, each with those of its streams that are asked for; None for all."""


class Tail:
    """Filled by the thread of `Tails`; read by whoever asked. `wake` is called when there is something to take."""

    def __init__(self, question: Question, store: Store, executor: Executor) -> None:
        """Raises LogQLError for a template that cannot be read."""
        self._question = question
        self._store = store
        self._executor = executor
        self._run = rows.pipeline(question.query)
        self._tests = matcher_tests(question.query.selector)
        self._labels: dict[int, Mapping[str, str]] = {}  # of the selected streams that were seen
        self._guard = threading.Lock()
        self._pending: Batches = []
        self._bytes = 0
        self._dropped: list[Dropped] = []
        self._failure: AtalaiaError | None = None
        self._from = 0
        self.wake: Callable[[], None] = lambda: None

    def selects(self, stream: Stream) -> bool:
        """Whether entries of a stream may be asked for."""
        if stream.tenant not in self._question.tenants:
            return False
        labels = stream.seen(tenanted=len(self._question.tenants) > 1)
        if not all(test(labels.get(name, "")) for name, test in self._tests):
            return False
        self._labels[stream.id] = labels
        return True

    def offer(self, batch: pa.RecordBatch, streams: set[int] | None) -> None:
        """A batch was committed that has entries of `streams` (None: only such). Never waits."""
        size = batch.get_total_buffer_size()
        with self._guard:
            if self._bytes and self._bytes + size > _MOST_BYTES:
                self._drop(batch, streams)
            else:
                self._bytes += size
                self._pending.append((batch, streams))
        self.wake()

    def give_up(self, reason: str) -> None:
        """The tail missed something: `take` says so."""
        with self._guard:
            self._failure = AtalaiaError(reason)
            self._pending, self._bytes = [], 0
        self.wake()

    def _drop(self, batch: pa.RecordBatch, streams: set[int] | None) -> None:
        batch = _of(batch, streams).slice(0, _MOST_DROPPED - len(self._dropped))
        for ts, stream in zip(batch.column("ts").to_pylist(), batch.column("stream_id").to_pylist(), strict=True):
            self._dropped.append(Dropped(self._labels[stream], ts))

    def take(self) -> tuple[Batches, list[Dropped]]:
        """What came next, some at a time, and what was dropped. Raises AtalaiaError when the tail must end."""
        with self._guard:
            if self._failure is not None:
                raise self._failure
            rows = count = 0
            for batch, _ in self._pending:
                if count and rows + len(batch) > _MOST_ROWS:
                    break
                rows, count = rows + len(batch), count + 1
                self._bytes -= batch.get_total_buffer_size()
            found, self._pending = self._pending[:count], self._pending[count:]
            dropped: list[Dropped] = []
            if not self._pending:
                dropped, self._dropped = self._dropped, []
        return found, dropped

    def history(self, start: int, limit: int, ticket: Ticket) -> list[Entry]:
        """The newest `limit` stored entries from `start` (ns), oldest first. To be asked first, once."""
        question = self._question
        with self._store.snapshot() as snapshot:
            self._from = snapshot.seq
            if not limit:
                return []
            found = self._executor.logs(
                question.query, question.tenants, start, _LAST, limit, True, ticket, snapshot=snapshot
            )
        return found[::-1]

    def entries(self, batches: Batches, ticket: Ticket) -> list[Arrived]:
        """The entries that pass the pipeline, in order of time. Raises QueryTooExpensive, QueryCancelled."""
        wanted = []
        for batch, streams in batches:
            # The numbers of a batch follow each other; the first ones may be in the history already.
            known = min(max(self._from - batch.column("seq")[0].as_py(), 0), len(batch))
            wanted.append(_of(batch.slice(known), streams))
        table = pa.Table.from_batches([batch for batch in wanted if len(batch)], batches[0][0].schema)
        arrived = []
        for ts, seq, stream, line, metadata in self._narrowed(table, ticket):
            ticket.check()
            if entry := self._run(ts, line, self._labels[stream], dict(metadata) if metadata else {}):
                arrived.append(Arrived(entry, seq))
        return arrived

    def _narrowed(self, table: pa.Table, ticket: Ticket) -> Sequence[Found]:
        """The rows that may pass, in order of time."""
        if len(table) > _FEW:
            labels = {number: self._labels[number] for number in pc.unique(table.column("stream_id")).to_pylist()}
            question = self._question
            # Where SQL has no memory, Python looks at all of them.
            with contextlib.suppress(QueryNeedsMemory):
                return self._executor.passing(question.query, question.tenants, labels, table.to_batches(), ticket)
        found: list[Found] = list(zip(*(column.to_pylist() for column in table.columns), strict=True))
        return sorted(found, key=lambda row: (row[0], row[1]))


def _of(batch: pa.RecordBatch, streams: set[int] | None) -> pa.RecordBatch:
    if streams is None:
        return batch
    return batch.filter(pc.is_in(batch.column("stream_id"), pa.array(sorted(streams), pa.int32())))
