"""Samples or their partial states to a matrix: the arithmetic of range aggregations over all windows at once."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from .matrix import Check, Labels, Matrix, unchecked
from .overtime import Kept
from .window import Grid, State, fold

_CHUNK = 2_000_000  # cells at a time


def slide(
    grid: Grid,
    labels: list[Labels],
    series: np.ndarray,
    cells: np.ndarray,
    state: State,
    kept: Kept,
    check: Check = unchecked,
) -> Matrix:
    """Partial states to windows. `series`, `cells` and each part of `state`: one row a (series number, cell)."""
    values = np.full((len(labels), grid.steps), np.nan)
    present = np.zeros(values.shape, bool)
    order = np.lexsort((cells, series))
    series, cells, state = series[order], cells[order], tuple(part[order] for part in state)
    height = max(1, _CHUNK // grid.cells)
    for first in range(0, len(labels), height):
        check()
        rows = slice(*np.searchsorted(series, (first, first + height)))
        count = min(height, len(labels) - first)
        at = (series[rows] - first) * grid.cells + cells[rows]
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):  # infinities and NaN are samples too
            dense = _dense(count * grid.cells, at, tuple(part[rows] for part in state), kept)
            windows = fold(tuple(part.reshape(count, grid.cells) for part in dense), grid.width, kept.merge)
            windows = tuple(part[:, :: grid.stride] for part in windows)
            values[first : first + count] = kept.result(windows, grid.range / 1e9)
        present[first : first + count] = windows[0] > 0
    return Matrix(tuple(labels), np.where(present, values, np.nan), present)


def _dense(size: int, at: np.ndarray, state: State, kept: Kept) -> State:
    """The states of all cells; `at` is sorted, and states of the same cell are merged."""
    dense = tuple(np.full(size, empty, part.dtype) for part, (_, empty) in zip(state, kept.columns, strict=True))
    begins = np.flatnonzero(np.diff(at, prepend=-1))
    nth = np.arange(len(at)) - np.repeat(begins, np.diff(begins, append=len(at)))
    for n in range(int(nth.max(initial=-1)) + 1):
        rows = nth == n
        merged = kept.merge(tuple(part[at[rows]] for part in dense), tuple(part[rows] for part in state))
        for part, new in zip(dense, merged, strict=True):
            part[at[rows]] = new
    return dense


def slide_samples(
    grid: Grid,
    labels: list[Labels],
    series: np.ndarray,
    samples: State,
    result: Callable[[np.ndarray, np.ndarray, int], float],
    check: Check = unchecked,
) -> Matrix:
    """Samples to windows. `samples`: times, order of arrival, values; `result`: of the times and values of a window
    that ends at a time. `check` is called now and then.
    """
    order = np.lexsort((samples[1], samples[0], series))
    series, ts, values = series[order], samples[0][order], samples[2][order]
    found = np.full((len(labels), grid.steps), np.nan)
    ends = grid.start + np.arange(grid.steps) * grid.step
    edges = np.searchsorted(series, np.arange(len(labels) + 1))
    present = np.zeros(found.shape, bool)
    for number, (begin, end) in enumerate(pairwise(edges)):
        own = ts[begin:end]
        low = begin + np.searchsorted(own, ends - grid.range, side="right")
        high = begin + np.searchsorted(own, ends, side="right")
        present[number] = high > low
        if number % 64 == 0:
            check()
        with np.errstate(invalid="ignore", over="ignore"):  # as above
            for nth, step in enumerate(present[number].nonzero()[0]):
                if nth % 256 == 255:
                    check()
                window = slice(low[step], high[step])
                found[number, step] = result(ts[window], values[window], int(ends[step]))
    return Matrix(tuple(labels), found, present)
