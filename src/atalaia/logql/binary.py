"""Binary operations between series and numbers, at every moment by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from .errors import Impossible
from .matrix import Check, Labels, Matrix, grouped, label_key, unchecked
from .tree import Binary, Grouping, Matching

Operation = Callable[[np.ndarray, np.ndarray], np.ndarray]


def _divided(operation: Operation) -> Operation:
    """An operation that gives NaN for a zero on its right."""
    return lambda left, right: np.where(right == 0, np.nan, operation(left, np.where(right == 0, 1.0, right)))


_ARITHMETIC: Mapping[str, Operation] = {
    "+": np.add, "-": np.subtract, "*": np.multiply, "/": _divided(np.divide), "%": _divided(np.fmod), "^": np.power,
}  # fmt: skip
_COMPARISONS: Mapping[str, Operation] = {
    "==": np.equal, "!=": np.not_equal, ">": np.greater, ">=": np.greater_equal, "<": np.less, "<=": np.less_equal,
}  # fmt: skip
MAX_POINTS = 10_000_000  # of the result of an operation
Row = tuple[Labels, np.ndarray, np.ndarray]
"""Labels, values, present."""
_ONE_TO_ONE = Matching(on=False, labels=())


def binary(tree: Binary, left: Matrix, right: Matrix, check: Check = unchecked) -> Matrix:
    """The result of an operation. Raises Impossible where series cannot be told apart."""
    with np.errstate(all="ignore"):  # infinities and NaN are values like any other
        if left.scalar or right.scalar:
            return _with_number(tree, left, right)
        matching = tree.matching or _ONE_TO_ONE
        if tree.op in ("and", "or", "unless"):
            return _sets(tree.op, matching, left, right)
        return _matched(tree, matching, left, right, check)


def _with_number(tree: Binary, left: Matrix, right: Matrix) -> Matrix:
    """A number and series, or two numbers; a comparison lets samples of series pass, of numbers it says 1 or 0."""
    series = right if left.scalar else left
    values, passes = _applied(tree, left.values, right.values, series.values, series.scalar)
    return Matrix(series.labels, values, series.present & passes, series.ordered, series.scalar)


def _applied(
    tree: Binary, left: np.ndarray, right: np.ndarray, kept: np.ndarray, as_number: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The values of an operation, and which of them there are; a comparison keeps those of `kept` where it holds."""
    if tree.op in _ARITHMETIC:
        found = _ARITHMETIC[tree.op](left, right)
        return found, np.ones(found.shape, bool)
    holds = np.asarray(_COMPARISONS[tree.op](left, right))
    if tree.return_bool or as_number:
        return holds.astype(float), np.ones(holds.shape, bool)
    return np.broadcast_to(kept, holds.shape), holds


def _signatures(matching: Matching, matrix: Matrix) -> dict[Labels, list[int]]:
    """The series by what is compared of their labels."""
    grouping = Grouping(not matching.on, matching.labels)
    found: dict[Labels, list[int]] = {}
    for row, labels in enumerate(matrix.labels):
        found.setdefault(grouped(labels, grouping), []).append(row)
    return found


def _sets(op: str, matching: Matching, left: Matrix, right: Matrix) -> Matrix:
    ours, theirs = _signatures(matching, left), _signatures(matching, right)
    none = np.zeros(left.values.shape[1], bool)

    def anywhere(matrix: Matrix, rows: list[int]) -> np.ndarray:
        return np.asarray(matrix.present[rows].any(axis=0)) if rows else none

    if op == "or":
        present = right.present.copy()
        for signature, rows in theirs.items():
            present[rows] &= ~anywhere(left, ours.get(signature, []))
        rest = Matrix(right.labels, right.values, present)
        return collected([*_rows(left), *_rows(rest)], left.values.shape[1])
    present = left.present.copy()
    for signature, rows in ours.items():
        there = anywhere(right, theirs.get(signature, []))
        present[rows] &= there if op == "and" else ~there
    return Matrix(left.labels, left.values, present, left.ordered)


def _matched(tree: Binary, matching: Matching, left: Matrix, right: Matrix, check: Check) -> Matrix:
    """Each series of the side that may have many beside the one of the other side."""
    flipped = matching.group == "right"
    many, one = (right, left) if flipped else (left, right)
    partners = _signatures(matching, one)
    for rows in partners.values():
        if (one.present[rows].sum(axis=0) > 1).any():
            raise Impossible(
                f"found duplicate series on the {'left' if flipped else 'right'} hand-side;"
                "many-to-many matching not allowed: matching labels must be unique on one side"
            )
    pairs = _pairs(tree, matching, many, one, partners, check)
    return collected(pairs, left.values.shape[1])


def _pairs(
    tree: Binary, matching: Matching, many: Matrix, one: Matrix, partners: dict[Labels, list[int]], check: Check
) -> Iterator[Row]:
    for signature, rows in _signatures(matching, many).items():
        others = partners.get(signature, [])
        if others and matching.group is None:
            both = one.present[others].any(axis=0) & (many.present[rows].sum(axis=0) > 1)
            if both.any():
                raise Impossible(
                    "multiple matches for labels: many-to-one matching must be explicit (group_left/group_right)"
                )
        for row in rows:
            check()
            for other in others:
                there = many.present[row] & one.present[other]
                if not there.any():
                    continue
                ours, theirs = many.values[row], one.values[other]
                if matching.group == "right":
                    ours, theirs = theirs, ours
                values, passes = _applied(tree, ours, theirs, ours)
                yield _result_labels(matching, many.labels[row], one.labels[other]), values, there & passes


def _result_labels(matching: Matching, many: Labels, one: Labels) -> Labels:
    if matching.group is None:
        return grouped(many, Grouping(not matching.on, matching.labels))
    included = {name: value for name, value in one if name in matching.include and value}
    return label_key({**{name: value for name, value in many if name not in matching.include}, **included})


def _rows(matrix: Matrix) -> Iterable[Row]:
    return zip(matrix.labels, matrix.values, matrix.present, strict=True)


def collected(rows: Iterable[Row], moments: int) -> Matrix:
    """Series of (labels, values, present), those of the same labels as one. Raises Impossible where two are there."""
    found: dict[Labels, tuple[np.ndarray, np.ndarray]] = {}
    for labels, values, present in rows:
        if labels in found:
            others, there = found[labels]
            if (there & present).any():
                raise Impossible("multiple matches for labels: grouping labels must ensure unique matches")
            values, present = np.where(present, values, others), there | present
        found[labels] = values, present
        if len(found) * moments > MAX_POINTS:
            raise Impossible(f"the operation gives more than {MAX_POINTS} points: ask for a larger step")
    if not found:
        return Matrix.empty(moments)
    columns = list(found.values())
    return Matrix(tuple(found), np.array([values for values, _ in columns]), np.array([there for _, there in columns]))
