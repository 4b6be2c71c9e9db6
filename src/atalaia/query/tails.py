"""Hands what is committed to the tails whose streams are in it, on a thread of its own, which sleeps until a commit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Collection

import pyarrow as pa

from atalaia.query.execute import Executor
from atalaia.query.tail import Question, Tail
from atalaia.store.store import Store

_MOST_BYTES = 128 << 20  # of batches that wait to be handed out; each is in a memory table as well


class Tails:
    """The tails of one store. With none, a commit costs nothing; else a look-up for each stream of a push."""

    def __init__(self, store: Store, executor: Executor) -> None:
        self._store = store
        self._executor = executor
        self._guard = threading.Lock()
        self._tails: list[Tail] = []
        self._interested: dict[int, tuple[Tail, ...]] = {}  # by stream, as far as it was seen
        self._waiting: queue.SimpleQueue[tuple[pa.RecordBatch, Collection[int]] | None] = queue.SimpleQueue()
        self._bytes = 0  # of what waits
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._tails)

    def open(self, question: Question) -> Tail:
        """A tail that from now on gets what is committed. Raises LogQLError for a template that cannot be read."""
        tail = Tail(question, self._store, self._executor)
        with self._guard:
            self._tails.append(tail)
            self._interested.clear()
            if self._thread is None:
                self._thread = threading.Thread(target=self._hand_out, name="tails", daemon=True)
                self._thread.start()
            self._store.listener = self._committed
        return tail

    def close(self, tail: Tail) -> None:
        """End a tail."""
        with self._guard:
            if tail not in self._tails:
                return
            self._tails.remove(tail)
            self._interested.clear()
            if not self._tails:
                self._store.listener = None
                self._waiting.put(None)
                self._thread = None

    def _committed(self, batch: pa.RecordBatch, streams: Collection[int]) -> None:
        """In the commit thread."""
        size = batch.get_total_buffer_size()
        with self._guard:
            fits = self._bytes + size <= _MOST_BYTES or not self._bytes
            if fits:
                self._bytes += size
                self._waiting.put((batch, streams))
            lost = () if fits else tuple(self._tails)
        for tail in lost:
            tail.give_up("entries come faster than they can be handed to tails: connect again")

    def _hand_out(self) -> None:
        while (item := self._waiting.get()) is not None:
            batch, streams = item
            found: dict[Tail, set[int]] = {}
            for stream in streams:
                for tail in self._who(stream):
                    found.setdefault(tail, set()).add(stream)
            for tail, own in found.items():
                tail.offer(batch, own if len(own) < len(streams) else None)
            with self._guard:
                self._bytes -= batch.get_total_buffer_size()

    def _who(self, stream: int) -> tuple[Tail, ...]:
        with self._guard:
            known = self._interested.get(stream)
            if known is None:
                try:
                    found = self._store.streams[stream]
                except KeyError:  # retention was faster than we
                    return ()
                known = self._interested[stream] = tuple(tail for tail in self._tails if tail.selects(found))
            return known
