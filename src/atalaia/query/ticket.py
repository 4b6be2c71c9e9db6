"""One query's leave to run: until when, where, whether anybody still waits for its answer, and what it read."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from atalaia.environment.errors import AtalaiaError
from atalaia.store.relation import Reading


class QueryTooExpensive(AtalaiaError):
    """A query exceeded its memory, its time or the size of its answer; the server goes on."""


class QueryNeedsMemory(QueryTooExpensive):
    """A query exceeded the memory of the place where it ran."""


class QueryCancelled(AtalaiaError):
    """Whoever asked has left, or somebody ended the query."""


class Ticket:
    """Made when a query may begin; work that takes long looks at it now and then.

    `place` is where it runs (see Engine); `readings` what it read so far, `passed` how many entries passed its
    pipeline, `statements` the SQL that was run.
    """

    def __init__(self, seconds: float) -> None:
        """`seconds`: how long the query may take from now on."""
        self._seconds = seconds
        self._left = seconds
        self.deadline = time.monotonic() + seconds
        """On the monotonic clock."""
        self.place = 0
        self.readings: list[Reading] = []
        self.statements: list[str] = []
        self.passed = 0
        self._cancelled = threading.Event()
        self._guard = threading.Lock()
        self._told: list[Callable[[], None]] = []

    def pause(self) -> None:
        """Let no time count until `begin`: the query waits for its turn."""
        if self.deadline != math.inf:
            self._left = self.deadline - time.monotonic()
            self.deadline = math.inf

    def begin(self, place: int) -> None:
        """Let the time that is left count: the query runs, from its beginning, at a place."""
        self.place = place
        self.deadline = time.monotonic() + self._left
        self.readings, self.statements, self.passed = [], [], 0

    def cancel(self) -> None:
        """End the query as soon as it looks: nobody waits for it."""
        with self._guard:
            self._cancelled.set()
            told = list(self._told)
        for tell in told:
            tell()

    def tell(self, cancelled: Callable[[], None]) -> None:
        """Call `cancelled`, in whichever thread cancels; at once, if the query is cancelled already."""
        with self._guard:
            self._told.append(cancelled)
            late = self._cancelled.is_set()
        if late:
            cancelled()

    def forget(self, cancelled: Callable[[], None]) -> None:
        """Call it no longer."""
        with self._guard:
            self._told.remove(cancelled)

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
