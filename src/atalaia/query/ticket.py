"""One query's leave to run: until when, and whether anybody still waits for its answer."""

from __future__ import annotations

import threading
import time

from atalaia.environment.errors import AtalaiaError


class QueryTooExpensive(AtalaiaError):
    """A query exceeded its memory or its time; the server goes on."""


class QueryCancelled(AtalaiaError):
    """Whoever asked has left."""


class Ticket:
    """Made when a query may begin; work that takes long looks at it now and then."""

    def __init__(self, seconds: float) -> None:
        """`seconds`: how long the query may take from now on."""
        self._seconds = seconds
        self.deadline = time.monotonic() + seconds
        """On the monotonic clock."""
        self._cancelled = threading.Event()

    def cancel(self) -> None:
        """End the query as soon as it looks: nobody waits for it."""
        self._cancelled.set()

    @property
    def over(self) -> bool:
        """Whether the query is to end now."""
        return self._cancelled.is_set() or time.monotonic() > self.deadline

    def why(self) -> AtalaiaError:
        """What to tell of a query that is over."""
        if self._cancelled.is_set():
            return QueryCancelled("the query was cancelled")
        return QueryTooExpensive(
            f"the query took more than {self._seconds:g} s", "ask for a shorter time or a narrower selector"
        )

    def check(self) -> None:
        """Raises QueryTooExpensive or QueryCancelled when the query is over."""
        if self.over:
            raise self.why()

    def wait(self, done: threading.Event) -> bool:
        """Whether `done` came before the query was over."""
        while not done.is_set():
            left = self.deadline - time.monotonic()
            # A cancelled query is noticed within a tenth of a second, an expired one at once.
            if done.wait(max(0.0, min(left, 0.1))):
                return True
            if self.over:
                return False
        return True
