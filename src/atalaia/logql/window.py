"""Sliding windows: SQL aggregates small cells of time, NumPy puts windows together from them.

A window at step t covers (t - range, t]. Time is cut where windows begin and where they end, so that every window is a
run of whole cells, and an entry is read once, however many windows it is in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

State = tuple[np.ndarray, ...]
"""What is known of the samples of each cell: arrays of the same shape [series, cells]."""

Merge = Callable[[State, State], State]
"""Two neighbouring cells' states as one, the earlier first."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The moments of a query, shifted by the offset: all in ns; `steps` moments from `start`, one for an instant."""

    start: int
    step: int
    steps: int
    range: int

    @property
    def first(self) -> int:
        """Entries with ts > first may be in a window."""
        return self.start - self.range

    @property
    def last(self) -> int:
        """Entries with ts <= last may be in a window."""
        return self.start + (self.steps - 1) * self.step

    @property
    def long(self) -> bool:
        """Whether all windows begin before any of them ends; what is in between is one cell then."""
        return self.range >= (self.steps - 1) * self.step

    @property
    def stride(self) -> int:
        """Cells a step: two, unless windows begin where others end."""
        return 2 if not self.long and self.range % self.step else 1

    @property
    def width(self) -> int:
        """Cells a window."""
        if self.long:
            return self.steps
        whole, rest = divmod(self.range, self.step)
        return whole * self.stride + bool(rest)

    @property
    def cells(self) -> int:
        """Cells in all: less than four a step, however long the range is."""
        return (self.steps - 1) * self.stride + self.width

    def gap_sql(self) -> str | None:
        """SQL of whether an entry is in any window; None when all between the first and the last are."""
        if self.long or self.step <= self.range:
            return None
        return f"(ts - {self.first + 1}) % {self.step} < {self.range}"

    def cell_sql(self) -> str:
        """SQL of an entry's cell, from 0; a constant for a single one, so that ts need not be read."""
        if self.steps == 1:
            return "0"
        since = f"(ts - {self.first + 1})"
        if self.long:
            begins = f"WHEN {since} < {(self.steps - 1) * self.step} THEN {since} // {self.step}"
            ends = f"{self.steps} + ({since} - {self.range}) // {self.step}"
            return f"CASE {begins} WHEN {since} < {self.range} THEN {self.steps - 1} ELSE {ends} END"
        if self.stride == 1:
            return f"{since} // {self.step}"
        return f"{since} // {self.step} * 2 + ({since} % {self.step} >= {self.range % self.step})::BIGINT"


def fold(state: State, width: int, merge: Merge) -> State:
    """The state of each run of `width` cells: [..., cells] -> [..., cells - width + 1].

    Runs of 1, 2, 4 … cells are merged, so that it takes few steps and no sum is taken back out of a larger one.
    """

    def cut(part: State, begin: int, length: int) -> State:
        return tuple(array[..., begin : begin + length] for array in part)

    cells = state[0].shape[-1]
    done: State | None = None
    runs, size, covered = state, 1, 0
    while True:
        if width & size:
            length = cells - covered - size + 1
            done = runs if done is None else merge(cut(done, 0, length), cut(runs, covered, length))
            covered += size
            if covered == width:
                return done
        length = cells - 2 * size + 1
        runs = merge(cut(runs, 0, length), cut(runs, size, length))
        size *= 2
