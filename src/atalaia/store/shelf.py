"""The segments that exist now, and the files of those that do not any more, until no query reads them."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from atalaia.store.compact import remove
from atalaia.store.intact import damage
from atalaia.store.segment import Made, Segment
from atalaia.store.snapshot import Part, segment_part

log = logging.getLogger("atalaia.store")


class Shelf:
    """Parts in the order of their first timestamp. Safe to use from any thread."""

    def __init__(self, folder: Path, found: Iterable[Made], damaged: Iterable[str], guard: threading.Condition) -> None:
        """`found` was written by an earlier process, and is verified before it is read.

        `damaged` is left out already. `guard` is the store's own, so that a snapshot sees memory and segments at one
        moment.
        """
        self.folder = folder
        self._guard = guard
        self._parts = _sorted([segment_part(folder, made, self.leave_out) for made in found])
        self._damaged = tuple(damaged)
        self._epoch = 0
        self._reading: Counter[int] = Counter()
        self._retired: list[tuple[int, Segment]] = []

    @property
    def parts(self) -> tuple[Part, ...]:
        """All of them."""
        return self._parts

    @property
    def segments(self) -> list[Segment]:
        """Their catalogue rows."""
        return [part.segment for part in self._parts if part.segment is not None]

    @property
    def tidy(self) -> bool:
        """Whether the files of all segments that were replaced are gone."""
        return not self._retired

    @property
    def damaged(self) -> tuple[str, ...]:
        """The names of the segments that are left out."""
        return self._damaged

    @contextmanager
    def reading(self) -> Iterator[tuple[Part, ...]]:
        """The parts of now; their files stay until this is left."""
        with self._guard:
            epoch, parts = self._epoch, self._parts
            self._reading[epoch] += 1
        try:
            yield parts
        finally:
            with self._guard:
                self._reading[epoch] -= 1
                self._reading += Counter()
                self._unlink()

    def replace(self, old: Iterable[str], new: Sequence[Made]) -> None:
        """Put segments in the place of others (by name), whose files go once nobody reads them."""
        names = set(old)
        with self._guard:
            gone = [part.segment for part in self._parts if part.segment and part.segment.name in names]
            kept = [part for part in self._parts if part.segment and part.segment.name not in names]
            self._parts = _sorted([*kept, *(segment_part(self.folder, made) for made in new)])
            self._retired += [(self._epoch, found) for found in gone]
            self._epoch += 1
            self._unlink()

    def leave_out(self, name: str, problem: str) -> None:
        """Read a damaged segment no more; its file and its catalogue row stay for `store repair`."""
        with self._guard:
            kept = tuple(part for part in self._parts if not part.segment or part.segment.name != name)
            if len(kept) == len(self._parts):
                return
            self._parts, self._damaged = kept, (*self._damaged, name)
        log_damaged(name, problem)

    def verify(self, wanted: Sequence[Segment]) -> bool:
        """Whether the files that are to be replaced are intact; those that are not are left out."""
        problems = [(found.name, damage(self.folder / found.name, found.size, found.crc32)) for found in wanted]
        for name, problem in problems:
            if problem is not None:
                self.leave_out(name, problem)
        return all(problem is None for _, problem in problems)

    def _unlink(self) -> None:
        oldest = min(self._reading, default=self._epoch)
        for epoch, found in self._retired:
            if epoch < oldest:
                remove(self.folder, found)
        self._retired = [(epoch, found) for epoch, found in self._retired if epoch >= oldest]


def log_damaged(name: str, problem: str) -> None:
    """Tell that a segment is left out, and what to do."""
    remedy = "stop the store and run: atalaia store repair"
    log.error("event=segment_damaged file=%s reason=%r remedy=%r", name, problem, remedy)


def _sorted(parts: list[Part]) -> tuple[Part, ...]:
    return tuple(sorted(parts, key=lambda part: (part.min_ts, part.first_seq)))
