"""Range aggregations over sliding windows: SQL counts small buckets, NumPy slides the windows over them.

A window at step t covers (t - range, t]. With buckets of gcd(step, range) every window is a run of whole buckets, so an
entry is read once, however many windows it is in.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .matrix import Labels, Matrix


@dataclass(frozen=True, slots=True)
class Grid:
    """The moments of a query, shifted by the offset: all in ns; `steps` moments from `start`, one for an instant."""

    start: int
    step: int
    steps: int
    range: int

    @property
    def bucket(self) -> int:
        """Size of a bucket."""
        return math.gcd(self.step, self.range) if self.steps > 1 else self.range

    @property
    def first(self) -> int:
        """Entries with ts > first may be in a window."""
        return self.start - self.range

    @property
    def last(self) -> int:
        """Entries with ts <= last may be in a window."""
        return self.start + (self.steps - 1) * self.step

    def bucket_sql(self) -> str:
        """SQL of an entry's bucket number, from 0; a constant for a single bucket, so that ts need not be read."""
        if self.steps == 1:
            return "0"
        return f"(ts - {self.first + 1}) // {self.bucket}"


def slide(grid: Grid, labels: list[Labels], series: np.ndarray, buckets: np.ndarray, values: np.ndarray) -> Matrix:
    """Sums over windows. `series`, `buckets`, `values`: one row a (series number, bucket number, partial sum)."""
    order = np.lexsort((buckets, series))
    series, buckets, values = series[order], buckets[order], values[order].astype(float)
    width = grid.range // grid.bucket
    stride = grid.step // grid.bucket if grid.steps > 1 else 0
    lows = np.arange(grid.steps) * stride
    running = np.concatenate([[0.0], np.cumsum(values)])
    edges = np.searchsorted(series, np.arange(len(labels) + 1))
    sums = np.zeros((len(labels), grid.steps))
    present = np.zeros(sums.shape, bool)
    for number in range(len(labels)):
        begin, end = edges[number], edges[number + 1]
        own = buckets[begin:end]
        low = begin + np.searchsorted(own, lows)
        high = begin + np.searchsorted(own, lows + width)
        sums[number] = running[high] - running[low]
        present[number] = high > low
    return Matrix(tuple(labels), np.where(present, sums, np.nan), present)
