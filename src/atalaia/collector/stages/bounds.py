"""What limits_config drops, at the end of a pipeline: lines that are too long, streams that are too many."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, label_sets
from atalaia.collector.meters import Meters


@dataclass(frozen=True, slots=True)
class LongLines:
    """`max_line_size` with `max_line_size_truncate: false`: lines of more bytes are dropped and counted."""

    most: int
    name: ClassVar[str] = "max_line_size"

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset()

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        fits = pc.less_equal(pc.binary_length(entries.lines), self.most).to_numpy(zero_copy_only=False)
        return without(entries, fits, "line_too_long")


@dataclass(frozen=True, slots=True)
class FewStreams:
    """`max_streams`: of a block's streams the first so many are kept, entries of others are dropped and counted."""

    most: int
    name: ClassVar[str] = "max_streams"

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset()

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        if not len(entries):
            return entries
        sets = label_sets(entries.labels, len(entries))
        if len(sets.dictionary) <= self.most:
            return entries
        codes = sets.indices.to_numpy()
        _, first = np.unique(codes, return_index=True)
        kept = codes[np.sort(first)[: self.most]]
        return without(entries, np.isin(codes, kept), "stream_limited")


def without(entries: Entries, kept: np.ndarray, reason: str) -> Entries:
    """The entries of the mask bool[N]; the others are counted as dropped."""
    if kept.all():
        return entries
    lines = entries.last_lines[~kept]

    def count(meters: Meters, taken: np.ndarray) -> None:
        meters.count("logentry_dropped_lines_total", int(taken.sum()), reason=reason)

    return entries.filter(kept).later(lines, count)
