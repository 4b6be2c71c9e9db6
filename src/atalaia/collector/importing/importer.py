"""Pushes texts to a store that counts their bytes, so that an import can be repeated, cut off, or find a text grown.

A text is named by its first line and the way it is read (`identity`), with a number, since several may begin alike.
Each push moves the text's position and sets a mark: the SHA-256 of all bytes up to there. A text is the one that the
store knows when it has a mark where the store stands; else it gets the next number.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from atalaia.collector.importing.content import Content
from atalaia.collector.importing.files import Given
from atalaia.collector.importing.reader import Reading, TextReader, identity
from atalaia.collector.importing.summary import Summary
from atalaia.environment.errors import AtalaiaError
from atalaia.store.batch import Source

_AT_ONCE = 64
_AHEAD = 2  # pieces that are read while one is pushed
Progress = Callable[[], None]


class Answer(Protocol):
    """What a store says to a push; see client.pusher.Pushed."""

    @property
    def refused(self) -> int:
        """Entries that were not taken."""

    @property
    def message(self) -> str | None:
        """Why the first of them was not."""

    @property
    def position(self) -> int | None:
        """Where the source stands, when that is not where the push begins."""


class Store(Protocol):
    """client.pusher.Pusher."""

    def positions(self, sources: Sequence[str]) -> Mapping[str, int]:
        """Up to where the store has each source that it knows."""

    def push(self, entries: pa.Table, tenant: str, source: Source, *also: Source) -> Answer:
        """Deliver entries, acknowledged when this returns."""


@dataclass(frozen=True, slots=True)
class Imported:
    """Of one text: entries `stored` now and `refused` (`message`: why the first was), bytes `known` from before."""

    name: str
    stored: int
    refused: int
    known: int
    size: int
    message: str | None
    damaged: bool
    summary: Summary


def inspect(given: Given, reading: Reading, progress: Progress) -> Imported:
    """What an import would find; nothing is pushed. Raises InputError for what is no text."""
    content = Content(given.open())
    reader = TextReader(given, reading)
    for _ in reader.pieces(content, 0):
        progress()
    return Imported(given.name, 0, 0, 0, content.position, None, content.damage is not None, reader.summary)


def import_text(
    given: Given, reading: Reading, zone: str | None, store: Store, tenant: str, progress: Progress
) -> Imported:
    """Push what the store has not. `progress` is called now and then. Raises InputError, AtalaiaError."""
    content = Content(given.open())
    name = f"import:{identity(reading, zone, tenant, content.first_line)}"
    number, known = _standing(given, name, store)
    source = f"{name}:{number}"
    content = Content(given.open())
    reader = TextReader(given, reading)
    stored = refused = 0
    message: str | None = None
    at = known
    waiting: deque[tuple[Future[Answer], int]] = deque()
    broken = threading.Event()

    def push(entries: pa.Table, start: int, end: int, mark: Source) -> Answer:
        # A store takes a source that it does not know from anywhere: nothing may follow what was not stored.
        if broken.is_set():
            raise AtalaiaError(f"{given.name} was not imported further")
        try:
            answer = store.push(entries, tenant, Source(source, start, end), mark)
            if answer.position not in (None, end):
                raise AtalaiaError(
                    f"the store stands at byte {answer.position} of {given.name}, not at {end}",
                    "another import of the same text runs, or the store was put back: run the same command again",
                )
        except BaseException:
            broken.set()
            raise
        return answer

    def settle() -> None:
        nonlocal stored, refused, message
        sent, rows = waiting.popleft()
        answer = sent.result()
        stored, refused, message = stored + rows - answer.refused, refused + answer.refused, message or answer.message
        progress()

    with ThreadPoolExecutor(1, "push") as pusher:
        try:
            for piece in reader.pieces(content, known):
                if piece.end <= known:
                    progress()
                    continue
                mark = Source(f"{name}:{content.digest()}", 0, piece.end)
                waiting.append((pusher.submit(push, piece.entries, at, piece.end, mark), len(piece.entries)))
                at = piece.end
                if len(waiting) > _AHEAD:
                    settle()
            while waiting:
                settle()
        except BaseException:
            broken.set()  # what is in line is not pushed: the command ends soon, and goes on from there next time
            raise
    size, damaged = content.position, content.damage is not None
    return Imported(given.name, stored, refused, min(known, size), size, message, damaged, reader.summary)


def _standing(given: Given, name: str, store: Store) -> tuple[int, int]:
    """Which number the text has, and up to which byte the store has it."""
    known: dict[int, int] = {}
    while True:
        numbers = range(len(known), len(known) + _AT_ONCE)
        found = store.positions([f"{name}:{number}" for number in numbers])
        more = {number: found[f"{name}:{number}"] for number in numbers if f"{name}:{number}" in found}
        known |= more
        if len(more) < _AT_ONCE:
            break
    if not known:
        return 0, 0
    digests, size = _digests(given, sorted(set(known.values())))
    marks = store.positions([f"{name}:{digest}" for digest in digests.values()])
    fitting = [
        (position, number)
        for number, position in known.items()
        if position in digests and marks.get(f"{name}:{digests[position]}") == position
    ]
    if fitting:
        position, number = max(fitting)
        return number, position
    # An older copy of a text that the store has longer: its end was marked when it was imported.
    if marks.get(f"{name}:{digests[size]}") == size:
        return 0, size
    return len(known), 0


def _digests(given: Given, ends: Sequence[int]) -> tuple[dict[int, str], int]:
    """The SHA-256 of the first bytes of a text up to each of `ends` that it reaches, and up to its end; its size."""
    content = Content(given.open())
    found: dict[int, str] = {}
    left = list(ends)
    while data := content.read():
        while left and left[0] <= content.position + len(data):
            cut = left.pop(0) - content.position
            content.took(data[:cut])
            data = data[cut:]
            found[content.position] = content.digest()
        content.took(data)
    found[content.position] = content.digest()
    return found, content.position
