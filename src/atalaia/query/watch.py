"""Interrupts what DuckDB does for queries that are over: one thread for all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from atalaia.query.ticket import Ticket

_AGAIN = 0.05
"""Seconds between two interrupts: one between two statements is lost."""


class Watch:
    """The thread begins with the first query and sleeps until the next deadline."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._watched: dict[int, tuple[Ticket, Callable[[], None]]] = {}
        self._number = 0
        self._wakes = float("inf")
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def watching(self, ticket: Ticket, interrupt: Callable[[], None]) -> Iterator[None]:
        """Call `interrupt` from when the query is over until the end of the block, and never after it."""
        with self._changed:
            self._number += 1
            key = self._number
            self._watched[key] = ticket, interrupt
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="query-watch", daemon=True)
                self._thread.start()
            elif ticket.deadline < self._wakes:
                self._changed.notify()
        ticket.tell(self._wake)
        try:
            yield
        finally:
            ticket.forget(self._wake)
            with self._changed:
                del self._watched[key]

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                over = [interrupt for ticket, interrupt in self._watched.values() if ticket.over]
                for interrupt in over:
                    interrupt()
                deadlines = (ticket.deadline for ticket, _ in self._watched.values())
                first = min(deadlines, default=float("inf"))
                self._wakes = time.monotonic() + _AGAIN if over else first
                # An hour: waiting for ever is no number of seconds.
                self._changed.wait(min(max(0.0, self._wakes - time.monotonic()), 3600.0))

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
