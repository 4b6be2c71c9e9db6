"""Verifies all of a store: catalogue, segments, indexes, write-ahead logs. Also while another process writes to it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from atalaia.environment.errors import AtalaiaError
from atalaia.store import wal
from atalaia.store.batch import BatchError, decode
from atalaia.store.catalogue import Catalogue
from atalaia.store.segment import Made
from atalaia.store.verify import index_problems, segment_problems

_ROUNDS = 20
_TORN_SECONDS = 5.0
"""A record that is being written is whole after so long; if its log is still torn at the same place, it is damaged."""
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a file (its path below the store's directory); without `damage` it is only worth knowing."""

    file: str
    problem: str
    damage: bool = True


def check(directory: Path, progress: Progress) -> Iterator[Finding]:
    """All that is wrong, as it is found. `progress` is told the bytes verified and those there are.

    Memory is bounded by a row group. Raises InputError when there is no store.
    """
    try:
        catalogue = Catalogue.read(directory)
    except AtalaiaError as error:
        if error.exit_code == 2:
            raise
        yield Finding("catalogue.sqlite", error.what)
    else:
        with closing(catalogue):
            yield from _Run(directory, catalogue, progress).findings()
    for path in sorted((directory / "wal").glob("*.wal")):
        yield from _log(path)


class _Run:
    """One check of a catalogue and of the files it names."""

    def __init__(self, directory: Path, catalogue: Catalogue, progress: Progress) -> None:
        self._folder = directory / "segments"
        self._catalogue = catalogue
        self._progress = progress
        self._done = self._total = 0
        self._known: set[str] = set()

    def findings(self) -> Iterator[Finding]:
        there = {path.name for path in self._folder.iterdir()}
        problems = self._catalogue.problems()
        yield from (Finding("catalogue.sqlite", problem) for problem in problems)
        try:
            # Segments that came while others were verified hold the entries of some that went.
            for _ in range(_ROUNDS):
                fresh = [made for made in self._catalogue.segments() if made.segment.name not in self._known]
                if not fresh:
                    break
                self._total += sum(made.segment.size + made.segment.index_size for made in fresh)
                for made in fresh:
                    yield from self._segment(made)
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            if not problems:
                yield Finding("catalogue.sqlite", f"it cannot be read: {error}")
            return
        for name in sorted(there - self._known):
            yield Finding(
                f"segments/{name}",
                "it is not in the catalogue: in use at the moment, or left of a crash and removed at the next start",
                damage=False,
            )

    def _segment(self, made: Made) -> Iterator[Finding]:
        found = made.segment
        self._known |= {found.name, found.index_name} if found.index_size else {found.name}
        labels = {stream.id: stream.text for stream in self._catalogue.load_streams().since(0)}
        try:
            problems, expected = segment_problems(self._folder / found.name, made, labels)
            yield from (Finding(f"segments/{found.name}", problem) for problem in problems)
        except FileNotFoundError:
            expected = []
            yield from self._missing(found.name, found.name)
        if found.index_size:
            try:
                problems = index_problems(self._folder / found.index_name, found, expected)
                yield from (Finding(f"segments/{found.index_name}", problem) for problem in problems)
            except FileNotFoundError:
                yield from self._missing(found.index_name, found.name)
        self._done += found.size + found.index_size
        self._progress(self._done, self._total)

    def _missing(self, file: str, segment: str) -> Iterator[Finding]:
        """A file that went while we looked had been replaced; its row went before."""
        if any(made.segment.name == segment for made in self._catalogue.segments()):
            yield Finding(f"segments/{file}", "it is missing")


def _log(path: Path) -> Iterator[Finding]:
    """What is wrong with a write-ahead log."""
    name = f"wal/{path.name}"
    deadline: float | None = None
    torn: int | None = None
    while True:
        try:
            cut = None
            for record in wal.scan(path):
                if isinstance(record, wal.Cut):
                    cut = record
                else:
                    decode(record.payload)
        except FileNotFoundError:
            return
        except BatchError as error:
            yield Finding(name, f"a record holds no entries: {error.what}")
            return
        except AtalaiaError as error:
            yield Finding(name, error.what)
            return
        if cut is None or torn not in (None, cut.offset):
            return
        torn = cut.offset
        deadline = deadline or time.monotonic() + _TORN_SECONDS
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    yield Finding(
        name,
        f"from byte {cut.offset} on, {cut.lost} bytes are no whole record: damaged, or cut short by a crash before they"
        " were acknowledged",
    )
