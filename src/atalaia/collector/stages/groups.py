"""Entries joined into longer ones: groups of rows, with the lines of the block that they cover."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries


def blank(entries: Entries) -> Entries:
    """The same entries without their lines, which are cheaper to take."""
    return replace(entries, lines=pa.nulls(len(entries), pa.utf8()))


class Groups:
    """Rows of `order`, cut where `starts` is true: where groups begin, their lengths, their first and last lines."""

    def __init__(self, entries: Entries, order: np.ndarray, starts: np.ndarray) -> None:
        self.at = np.flatnonzero(starts)
        self.lengths = np.diff(np.append(self.at, len(order)))
        self.first = np.minimum.reduceat(entries.first_lines[order], self.at)
        self.last = np.maximum.reduceat(entries.last_lines[order], self.at)
        self._lines, self._order = entries.lines, order

    def joined(self, separator: str) -> pa.Array:
        """The groups' texts."""
        count = len(self._order)
        lines = self._lines
        if not np.array_equal(self._order, np.arange(count)):
            lines = lines.take(pa.array(self._order))
        if len(self.at) == count:
            return lines
        offsets = pa.array(np.append(self.at, count).astype(np.int32))
        return pc.binary_join(pa.ListArray.from_arrays(offsets, lines), separator)

    def some(self, groups: np.ndarray, separator: str) -> pa.Array:
        """The texts of these groups (int64[M]), in this order."""
        lengths = self.lengths[groups]
        offsets = np.append(0, np.cumsum(lengths))
        rows = np.arange(offsets[-1]) + np.repeat(self.at[groups] - offsets[:-1], lengths)
        lines = self._lines.take(pa.array(self._order[rows]))
        return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), lines), separator)
