"""Series of samples: what metric queries are computed in, and the aggregations over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .tree import Grouping, Selector, VectorAggregation

Labels = tuple[tuple[str, str], ...]
Check = Callable[[], None]
"""Raises when the query is to end; work that takes long calls it now and then."""
_CELLS = 1_000_000  # samples of several series that are worked on at once


def unchecked() -> None:
    """A query that nobody ends."""


@dataclass(frozen=True, slots=True)
class Matrix:
    """`values` float[S, T]: S series at T moments; NaN, with `present` false, where there is no sample.

    `ordered`: the order of the series is that of an answer. `scalar`: a number, which is no series.
    """

    labels: tuple[Labels, ...]
    values: np.ndarray
    present: np.ndarray
    ordered: bool = False
    scalar: bool = False

    @staticmethod
    def constant(value: float, moments: int, scalar: bool = False) -> Matrix:
        """A series without labels, or a number."""
        return Matrix(((),), np.full((1, moments), value), np.ones((1, moments), bool), scalar=scalar)

    @staticmethod
    def empty(moments: int) -> Matrix:
        """No series."""
        return Matrix((), np.zeros((0, moments)), np.zeros((0, moments), bool))


def label_key(labels: Mapping[str, str]) -> Labels:
    """Labels as a sorted tuple, which can be compared and hashed."""
    return tuple(sorted(labels.items()))


def grouped(labels: Labels, grouping: Grouping | None) -> Labels:
    """What is left of labels by a grouping; nothing without one. `by` leaves out labels that are absent."""
    if grouping is None:
        return ()
    names = set(grouping.labels)
    return tuple((name, value) for name, value in labels if (name in names) != grouping.without)


def absent(selector: Selector, matrix: Matrix) -> Matrix:
    """1 where no series has a sample; its labels are those that the selector demands to be equal."""
    names = [matcher.name for matcher in selector.matchers]
    labels = {m.name: m.value for m in selector.matchers if m.op == "=" and m.value and names.count(m.name) == 1}
    present = np.logical_not(matrix.present.any(axis=0))[np.newaxis]
    return Matrix((label_key(labels),), np.where(present, 1.0, np.nan), present)


def aggregate(tree: VectorAggregation, matrix: Matrix, check: Check = unchecked) -> Matrix:
    """sum, avg, count, min, max, stddev, stdvar, topk, bottomk, sort, sort_desc over series."""
    if tree.op in ("sort", "sort_desc"):
        return _sorted(matrix, tree.op == "sort_desc")
    keys = [grouped(labels, tree.grouping) for labels in matrix.labels]
    if tree.op in ("topk", "bottomk", "approx_topk"):
        return _top(matrix, keys, int(tree.parameter or 0), tree.op != "bottomk", check)
    distinct = list(dict.fromkeys(keys))
    rows = {key: [] for key in distinct}  # type: dict[Labels, list[int]]
    for row, key in enumerate(keys):
        rows[key].append(row)
    values = np.full((len(distinct), matrix.values.shape[1]), np.nan)
    present = np.zeros(values.shape, bool)
    for number, key in enumerate(distinct):
        check()
        for some in _columns(len(rows[key]), matrix.values.shape[1]):
            part, there = matrix.values[rows[key], some], matrix.present[rows[key], some]
            values[number, some], present[number, some] = _reduced(tree.op, part, there), there.any(axis=0)
    return Matrix(tuple(distinct), values, present)


def _columns(rows: int, columns: int) -> Iterator[slice]:
    """Some moments after the other, so that what is made of them stays small."""
    width = max(1, _CELLS // rows)
    return (slice(first, first + width) for first in range(0, columns, width))


def _reduced(op: str, part: np.ndarray, there: np.ndarray) -> np.ndarray:
    count = there.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        total = np.where(there, part, 0.0).sum(axis=0)
        match op:
            case "sum":
                result = total
            case "count":
                result = count.astype(float)
            case "avg":
                result = total / count
            case "min":
                result = np.fmin.reduce(np.where(there, part, np.nan), axis=0)  # NaN only where all are
            case "max":
                result = np.fmax.reduce(np.where(there, part, np.nan), axis=0)
            case _:
                spread = np.where(there, (part - total / count) ** 2, 0.0).sum(axis=0) / count
                result = np.sqrt(spread) if op == "stddev" else spread
    return np.where(count > 0, result, np.nan)


def _top(matrix: Matrix, keys: Sequence[Labels], most: int, largest: bool, check: Check) -> Matrix:
    """At each moment the `most` largest (or smallest) samples of each group; series keep their labels."""
    kept = np.zeros(matrix.present.shape, bool)
    groups: dict[Labels, list[int]] = {}
    for row, key in enumerate(keys):
        groups.setdefault(key, []).append(row)
    for members in groups.values():
        check()
        rows = np.array(members)
        for some in _columns(len(rows), matrix.values.shape[1]):
            worth = matrix.values[rows, some] if largest else -matrix.values[rows, some]
            worth = np.where(matrix.present[rows, some], np.nan_to_num(worth, nan=-np.inf), -np.inf)
            order = np.argsort(-worth, axis=0, kind="stable")[:most]
            kept[rows[order], np.arange(matrix.values.shape[1])[some]] = True
    kept &= matrix.present
    alive = np.flatnonzero(kept.any(axis=1))
    found = Matrix(tuple(matrix.labels[i] for i in alive), matrix.values[alive], kept[alive])
    return _sorted(found, largest) if found.values.shape[1] == 1 else found


def _sorted(matrix: Matrix, descending: bool) -> Matrix:
    if matrix.values.shape[1] != 1:
        return matrix
    worth = matrix.values[:, 0]
    order = np.argsort(-worth if descending else worth, kind="stable")
    return Matrix(tuple(matrix.labels[i] for i in order), matrix.values[order], matrix.present[order], ordered=True)
