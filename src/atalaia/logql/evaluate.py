"""Evaluates the tree of a metric query; the leaves, range aggregations, are answered by whoever has the entries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from .binary import binary
from .matrix import Check, Matrix, aggregate, unchecked
from .relabel import label_replace
from .tree import Binary, Grouping, LabelReplace, Metric, RangeAggregation, Scalar, VectorAggregation

COUNTING = ("count_over_time", "rate", "bytes_over_time", "bytes_rate")
# A sum of counts is the count of the larger group: the series in between need not exist.
_AT_ONCE = {"sum": (*COUNTING, "sum_over_time"), "min": ("min_over_time",), "max": ("max_over_time",)}
Leaf = Callable[[RangeAggregation, Grouping | None], Matrix]


def evaluate(tree: Metric, leaf: Leaf, moments: int, check: Check = unchecked) -> Matrix:
    """The series of a metric query at all its moments, or its number. Raises Impossible.

    `leaf` computes a range aggregation, its series grouped by the given labels, or by all labels for None;
    `check` is called now and then.
    """
    if isinstance(tree, RangeAggregation):
        return leaf(tree, tree.grouping)
    if isinstance(tree, VectorAggregation):
        if (inner := _at_once(tree)) is not None:
            return leaf(inner, tree.grouping or Grouping(False, ()))
        return aggregate(tree, _as_series(evaluate(tree.inner, leaf, moments, check)), check)
    if isinstance(tree, LabelReplace):
        return label_replace(tree, _as_series(evaluate(tree.inner, leaf, moments, check)))
    if isinstance(tree, Binary):
        return binary(
            tree, evaluate(tree.left, leaf, moments, check), evaluate(tree.right, leaf, moments, check), check
        )
    return Matrix.constant(tree.value, moments, scalar=isinstance(tree, Scalar))


def _as_series(matrix: Matrix) -> Matrix:
    """A number as a series without labels."""
    return replace(matrix, scalar=False) if matrix.scalar else matrix


def _at_once(tree: VectorAggregation) -> RangeAggregation | None:
    """The range aggregation whose series, grouped as the vector aggregation says, are those of both."""
    inner = tree.inner
    if not isinstance(inner, RangeAggregation) or inner.grouping or inner.op not in _AT_ONCE.get(tree.op, ()):
        return None
    if inner.unwrap and tree.grouping and not tree.grouping.without and inner.unwrap.label in tree.grouping.labels:
        return None  # the unwrapped label is none of the series in between
    return inner
