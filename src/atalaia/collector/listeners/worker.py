"""The thread between an inbox and a spool: takes what has arrived, makes entries of it in batches, appends them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeAlias

import pyarrow as pa

from atalaia.collector.entries import Entries
from atalaia.collector.listeners.inbox import Inbox
from atalaia.collector.listeners.spool import Spool

Received: TypeAlias = "tuple[str, list[bytes]]"  # a peer's address and its messages
_MOST = 20_000  # messages of a batch, about
_BYTES = 4 << 20  # bytes of a batch, about
_FULL = 0.5  # seconds between attempts to append to a full spool


class Worker:
    """`taken(count)` hears of entries in the spool, `lost(count)` of those that a stop found without room."""

    def __init__(
        self,
        spool: Spool,
        make: Callable[[Sequence[Received]], Entries],
        taken: Callable[[int], None],
        lost: Callable[[int], None],
    ) -> None:
        self.inbox: Inbox[Received] = Inbox()
        self._spool, self._make, self._taken, self._lost = spool, make, taken, lost
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"parse {spool.job}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def hurry(self) -> None:
        """A full spool is waited for no longer."""
        self._stopping.set()

    def finish(self) -> None:
        """Spool what is in the inbox, and end."""
        self.hurry()
        self.inbox.close()
        if self._thread.is_alive():
            self._thread.join()
        self._spool.sync()

    def _work(self) -> None:
        while not self.inbox.finished:
            for piece in _pieces(self.inbox.take(0.5)):
                entries = self._make(piece)
                if len(entries):
                    self._keep(entries)

    def _keep(self, entries: Entries) -> None:
        table = pa.Table.from_batches([entries.record_batch()])
        # While it is full the inbox fills too, and then senders wait, or datagrams are dropped.
        while not self._spool.append(table, patience=_FULL):
            if self._stopping.is_set():
                self._lost(len(entries))
                return
        self._taken(len(entries))


def _pieces(items: list[Received]) -> list[list[Received]]:
    pieces: list[list[Received]] = []
    count = size = 0
    for item in items:
        if not pieces or count > _MOST or size > _BYTES:
            pieces.append([])
            count = size = 0
        pieces[-1].append(item)
        count += len(item[1])
        size += sum(map(len, item[1]))
    return pieces
