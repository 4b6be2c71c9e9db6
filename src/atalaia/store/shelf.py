"""The segments that exist now, and the files of those that do not any more, until no query reads them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from atalaia.store.compact import remove
from atalaia.store.segment import Made, Segment
from atalaia.store.snapshot import Part, segment_part


class Shelf:
    """Parts in the order of their first timestamp. Safe to use from any thread."""

    def __init__(self, folder: Path, found: Iterable[Made], guard: threading.Condition) -> None:
        """`guard` is the store's own, so that a snapshot sees memory and segments at one moment."""
        self.folder = folder
        self._guard = guard
        self._parts = _sorted([segment_part(folder, made) for made in found])
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

    def leave_out(self, name: str) -> None:
        """Read a damaged segment no more; its file and its catalogue row stay for `store repair`."""
        with self._guard:
            self._parts = tuple(part for part in self._parts if not part.segment or part.segment.name != name)

    def _unlink(self) -> None:
        oldest = min(self._reading, default=self._epoch)
        for epoch, found in self._retired:
            if epoch < oldest:
                remove(self.folder, found)
        self._retired = [(epoch, found) for epoch, found in self._retired if epoch >= oldest]


def _sorted(parts: list[Part]) -> tuple[Part, ...]:
    return tuple(sorted(parts, key=lambda part: (part.min_ts, part.first_seq)))
