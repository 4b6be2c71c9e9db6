"""Between a tail's pipeline and its client: what waits for its delay, and what waits for the client to read."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from atalaia.logql.entry import Entry
from atalaia.query.tail import Arrived, Dropped

_MOST_ENTRIES = 10_000
_MOST_BYTES = 4 << 20
_MOST_HELD = 50_000
_MOST_DROPPED = 1000  # that are named in one message
_FRAME_ENTRIES = 1000
_FRAME_BYTES = 1 << 20


def first(entries: Sequence[Entry], start: int = 0) -> Sequence[Entry]:
    """As many of the entries from `start` on as one message has."""
    count = size = 0
    for entry in entries[start : start + _FRAME_ENTRIES]:
        size += len(entry.line)
        if count and size > _FRAME_BYTES:
            break
        count += 1
    return entries[start : start + count]


class Outbox:
    """Bounded: entries beyond its bounds are dropped, the newest ones, and told by stream and time."""

    def __init__(self) -> None:
        self.filled = asyncio.Event()
        self._entries: list[Entry] = []
        self._bytes = 0
        self._dropped: list[Dropped] = []
        self.lost = 0
        """How many entries were dropped in all."""

    def put(self, entries: Sequence[Entry]) -> None:
        """Add entries to what is to be sent."""
        for entry in entries:
            size = len(entry.line)
            if self._entries and (self._bytes + size > _MOST_BYTES or len(self._entries) >= _MOST_ENTRIES):
                self.drop([Dropped(entry.stream, entry.ts)])
                continue
            self._entries.append(entry)
            self._bytes += size
        if entries:
            self.filled.set()

    def drop(self, dropped: Sequence[Dropped]) -> None:
        """Tell that entries are left out."""
        self.lost += len(dropped)
        self._dropped += dropped[: _MOST_DROPPED - len(self._dropped)]
        if dropped:
            self.filled.set()

    def take(self) -> tuple[Sequence[Entry], list[Dropped]]:
        """The next message's entries, in order; what was dropped comes behind the last of those before it."""
        found = first(self._entries)
        self._entries = self._entries[len(found) :]
        self._bytes -= sum(len(entry.line) for entry in found)
        dropped: list[Dropped] = []
        if not self._entries:
            dropped, self._dropped = self._dropped, []
            self.filled.clear()
        return found, dropped


class Delay:
    """Holds entries for `seconds`, so that those which come late are told in order of their time."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._held: list[tuple[float, Arrived]] = []  # in order of coming

    def put(self, arrived: Sequence[Arrived]) -> None:
        """Take entries in."""
        due = self._clock() + self._seconds
        self._held += [(due, one) for one in arrived]

    def due(self) -> list[Entry]:
        """What is to be told now, in order of time: nothing held comes before it."""
        now = self._clock()
        over = max(0, len(self._held) - _MOST_HELD)
        ripe = [one for i, (due, one) in enumerate(self._held) if due <= now or i < over]
        if not ripe:
            return []
        edge = max(_order(one) for one in ripe)
        told = sorted((one for _, one in self._held if _order(one) <= edge), key=_order)
        self._held = [(due, one) for due, one in self._held if _order(one) > edge]
        return [one.entry for one in told]

    def wait(self) -> float | None:
        """Seconds until something is due; None when nothing is held."""
        return max(0.0, self._held[0][0] - self._clock()) if self._held else None


def _order(one: Arrived) -> tuple[int, int]:
    return one.entry.ts, one.seq
