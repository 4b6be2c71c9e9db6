"""Follows a query without loss or repetition: over a tail, also after an interruption, or by asking again and again."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator

from atalaia.client.entries import LogEntry
from atalaia.client.loki import LokiClient, NotAllowed, NotOffered
from atalaia.client.tail import Followed, Tail
from atalaia.environment.errors import AtalaiaError, InputError

_S = 10**9
_LATE = 60 * _S  # ns; an entry that comes later than this during an interruption is not found afterwards
_AHEAD = 600 * _S  # ns; how wrong another machine's clock may go
_OVERLAP = 5 * _S  # ns; from when a tail is asked for again, once what was missed has been asked for
_MOST = 50_000  # entries of that
_PAUSES = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # seconds before the next try
_POLL = 1.0  # seconds
_PIECE = 1000
Key = tuple[int, int]


class _Told:
    """What was given out lately, to know it again; equal entries are counted."""

    def __init__(self, start: int) -> None:
        self.floor = start
        self._last: int | None = None
        self._counts: Counter[Key] = Counter()
        self._before: Counter[Key] = Counter()
        self._again: Counter[Key] = Counter()
        self._prune_at = 100_000

    def horizon(self, back: int) -> int:
        """`back` ns before the last entry, or before now."""
        now = time.time_ns()
        last = now if self._last is None else min(now, self._last)
        return max(self.floor, last - back)

    def begin(self, start: int) -> None:
        """From now on all entries since `start` come again."""
        self._before = Counter({key: n for key, n in self._counts.items() if key[0] >= start})
        self._again = Counter()

    def new(self, entries: list[LogEntry]) -> list[LogEntry]:
        """Those that were not given out."""
        found = []
        for entry in entries:
            key = entry.ts, hash((entry.line, frozenset(entry.labels.items()), frozenset(entry.metadata.items())))
            if key in self._before:
                self._again[key] += 1
                if self._again[key] <= self._before[key]:
                    continue
            self._counts[key] += 1
            self._last = entry.ts if self._last is None else max(self._last, entry.ts)
            found.append(entry)
        if len(self._counts) > self._prune_at:
            oldest = self.horizon(2 * _LATE)
            self._counts = Counter({key: n for key, n in self._counts.items() if key[0] >= oldest})
            self._prune_at = max(100_000, 2 * len(self._counts))
        return found


def follow(
    client: LokiClient,
    query: str,
    *,
    start: int,
    limit: int | None,
    delay: int = 0,
    note: Callable[[str], object] = lambda _: None,
    sleep: Callable[[float], object] = time.sleep,
) -> Iterator[list[LogEntry]]:
    """The newest `limit` entries from `start` (ns; None: all), then what comes, some at a time, without end.

    `note` takes what a person should know of the connection. Raises what the first question to the server raises.
    """
    told = _Told(start)
    newest = limit
    tries = 0
    began = False
    while True:
        try:
            if newest is None or began:
                yield from _missed(client, query, told, start if not began else told.horizon(_LATE))
                followed = Followed(query, told.horizon(_OVERLAP), _MOST, delay)
            else:
                followed = Followed(query, start, max(newest, 1), delay)
            told.begin(followed.start)
            with Tail(client.connection, followed) as tail:
                if tries:
                    note("connected again")
                first = not began
                began, tries = True, 0
                for entries in tail:
                    if first and newest is not None:
                        told.floor = max(start, entries[0].ts)
                    first = False
                    if found := told.new(entries):
                        yield found
        except (InputError, NotAllowed):
            raise
        except AtalaiaError as error:
            if not began and isinstance(error, NotOffered):
                note("the server has no tail: it is asked every second")
                yield from _polled(client, query, told, newest, sleep)
            if not began:
                raise
            if not tries:
                note(f"{error}; trying again")
            sleep(_PAUSES[min(tries, len(_PAUSES) - 1)])
            tries += 1


def _missed(client: LokiClient, query: str, told: _Told, start: int) -> Iterator[list[LogEntry]]:
    """What is stored from `start` on and was not given out."""
    told.begin(start)
    waiting: list[LogEntry] = []
    for entry in client.entries(query, start=start, end=time.time_ns() + _AHEAD):
        waiting.append(entry)
        if len(waiting) == _PIECE:
            yield told.new(waiting)
            waiting = []
    if found := told.new(waiting):
        yield found


def _polled(
    client: LokiClient, query: str, told: _Told, newest: int | None, sleep: Callable[[float], object]
) -> Iterator[list[LogEntry]]:
    if newest is not None:
        end = time.time_ns() + _AHEAD
        entries = list(client.entries(query, start=told.floor, end=end, limit=newest, newest_first=True))[::-1]
        if entries:
            told.floor = entries[0].ts
            yield told.new(entries)
        else:
            told.floor = max(told.floor, time.time_ns() - _LATE)
    while True:
        try:
            yield from _missed(client, query, told, told.horizon(_LATE))
        except (InputError, NotAllowed):
            raise
        except AtalaiaError:  # it does not answer at the moment
            sleep(_PAUSES[-2])
        sleep(_POLL)
