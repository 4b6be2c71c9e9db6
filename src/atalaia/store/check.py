"""Verifies all of a store: catalogue, segments, indexes, write-ahead logs. Also while another process writes to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.store import wal
from atalaia.store.batch import decode
from atalaia.store.catalogue import Catalogue, OtherFormat, Unreachable, read_beside
from atalaia.store.compact import index_path
from atalaia.store.segment import Made
from atalaia.store.verify import texts_of, verify_index, verify_segment

_ROUNDS = 20
Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with a file (its path below the store's directory); without `damage` it is only worth knowing."""

    file: str
    problem: str
    damage: bool = True


def check(directory: Path, progress: Progress, patience: float = 5.0) -> Iterator[Finding]:
    """All that is wrong, as it is found. `progress` is told the bytes verified and those there are.

    A log that ends in a part of a record is being written, unless it is the same after `patience` seconds.
    Memory is bounded by a row group. Raises InputError when there is no store.
    """
    try:
        catalogue = read_beside(directory)
    except (InputError, OtherFormat, Unreachable):
        raise
    except AtalaiaError as error:
        yield Finding("catalogue.sqlite", error.what)
    else:
        with closing(catalogue):
            yield from _Run(directory, catalogue, progress).findings()
    for path in sorted((directory / "wal").glob("*.wal")):
        yield from _log(path, patience)


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
        if problems:
            return
        # Segments that came while others were verified hold the entries of some that went.
        for _ in range(_ROUNDS):
            fresh = [made for made in self._catalogue.segments() if made.segment.name not in self._known]
            if not fresh:
                break
            self._total += sum(made.segment.size + made.segment.index_size for made in fresh)
            labels = texts_of(self._catalogue.load_streams())
            for made in fresh:
                yield from self._segment(made, labels)
        for name in sorted(there - self._known):
            yield Finding(
                f"segments/{name}",
                "it is not in the catalogue: in use at the moment, or left of a crash and removed at the next start",
                damage=False,
            )

    def _segment(self, made: Made, labels: Mapping[int, str]) -> Iterator[Finding]:
        found, index = made.segment, index_path(self._folder, made.segment)
        self._known |= {found.name, index.name}
        facts = None
        try:
            verified = verify_segment(self._folder / found.name, made)
            facts = verified.facts
            wrong = [number for number, text in (facts.labels if facts else {}).items() if labels.get(number) != text]
            yield from (Finding(f"segments/{found.name}", problem) for problem in verified.problems)
            yield from (Finding("catalogue.sqlite", f"the labels of stream {n} are others in segments") for n in wrong)
        except FileNotFoundError:
            yield from self._missing(found.name, found.name)
        if found.index_size:
            try:
                if problem := verify_index(index, found, facts):
                    yield Finding(f"segments/{index.name}", problem)
            except FileNotFoundError:
                yield from self._missing(index.name, found.name)
        self._done += found.size + found.index_size
        self._progress(self._done, self._total)

    def _missing(self, file: str, segment: str) -> Iterator[Finding]:
        """A file that went while we looked had been replaced; its row went before."""
        if any(made.segment.name == segment for made in self._catalogue.segments()):
            yield Finding(f"segments/{file}", "it is missing")


def _log(path: Path, patience: float) -> Iterator[Finding]:
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
                    decode(record.payload, most=None)
        except FileNotFoundError:
            return
        except AtalaiaError as error:
            yield Finding(name, error.what)
            return
        except OSError as error:
            yield Finding(name, f"it cannot be read: {error}")
            return
        if cut is None or torn not in (None, cut.offset):
            return
        torn = cut.offset
        deadline = deadline or time.monotonic() + patience
        if time.monotonic() > deadline:
            break
        time.sleep(0.2)
    yield Finding(
        name,
        f"from byte {cut.offset} on, {cut.lost} bytes are no whole record: damaged, or cut short by a crash before they"
        " were acknowledged",
    )
