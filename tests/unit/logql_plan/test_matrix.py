"""Aggregations over series beside plain Python."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql.matrix import Labels, Matrix, aggregate, grouped
from atalaia.logql.tree import Grouping, VectorAggregation, VectorFn, VectorOp

NONE: float = math.nan  # no sample
VALUES = st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0, 1e6])
REDUCTIONS = {
    "sum": sum,
    "count": len,
    "avg": statistics.fmean,
    "min": min,
    "max": max,
    "stddev": statistics.pstdev,
    "stdvar": statistics.pvariance,
}


def matrix(rows: dict[tuple[str, str], list[float | None]]) -> Matrix:
    labels = tuple((("a", a), ("b", b)) for a, b in rows)
    values = np.array([[NONE if v is None else v for v in row] for row in rows.values()])
    present = np.array([[v is not None for v in row] for row in rows.values()])
    return Matrix(labels, values, present)


def cells(found: Matrix) -> dict[Labels, list[float | None]]:
    return {
        labels: [float(v) if there else None for v, there in zip(row, has, strict=True)]
        for labels, row, has in zip(found.labels, found.values, found.present, strict=True)
    }


@st.composite
def matrices(draw: st.DrawFn) -> Matrix:
    steps = draw(st.integers(1, 4))
    keys = draw(st.lists(st.tuples(st.sampled_from("xy"), st.sampled_from("pqr")), unique=True, min_size=1))
    return matrix({key: draw(st.lists(VALUES | st.none(), min_size=steps, max_size=steps)) for key in keys})


GROUPINGS = st.sampled_from(
    [
        None,
        *(Grouping(without, names) for without in (False, True) for names in ((), ("a",), ("b",), ("a", "b"), ("z",))),
    ]
)


def key_of(labels: Labels, grouping: Grouping | None) -> Labels:
    if grouping is None:
        return ()
    return tuple(pair for pair in labels if (pair[0] in grouping.labels) is not grouping.without)


@given(matrices(), GROUPINGS, st.sampled_from(sorted(REDUCTIONS)))
@settings(max_examples=60)
def test_reductions(data: Matrix, grouping: Grouping | None, op: VectorOp) -> None:
    groups: dict[Labels, list[list[float | None]]] = {}
    for labels, row in cells(data).items():
        groups.setdefault(key_of(labels, grouping), []).append(row)
    found = cells(aggregate(VectorAggregation(op, VectorFn(0), grouping), data))
    assert list(found) == list(groups)
    for labels, rows in groups.items():
        for moment, column in enumerate(zip(*rows, strict=True)):
            there = [v for v in column if v is not None]
            value = found[labels][moment]
            if there:
                assert value == pytest.approx(REDUCTIONS[op](there), rel=1e-12, abs=1e-9)
            else:
                assert value is None


@given(matrices(), GROUPINGS, st.sampled_from(["topk", "bottomk"]), st.integers(1, 4))
@settings(max_examples=60)
def test_top_and_bottom(data: Matrix, grouping: Grouping | None, op: VectorOp, most: int) -> None:
    found = cells(aggregate(VectorAggregation(op, VectorFn(0), grouping, most), data))
    original = cells(data)
    for moment in range(data.values.shape[1]):
        groups: dict[Labels, list[float]] = {}
        kept: dict[Labels, list[float]] = {}
        for labels, row in original.items():
            if (value := row[moment]) is not None:
                groups.setdefault(key_of(labels, grouping), []).append(value)
        for labels, row in found.items():
            if (value := row[moment]) is not None:
                assert value == original[labels][moment]
                kept.setdefault(key_of(labels, grouping), []).append(value)
        best = {key: sorted(values, reverse=op == "topk")[:most] for key, values in groups.items()}
        assert {key: sorted(values, reverse=op == "topk") for key, values in kept.items()} == best


def test_an_instant_topk_comes_sorted() -> None:
    data = matrix({("x", "p"): [1.0], ("x", "q"): [3.0], ("y", "p"): [2.0]})
    top = aggregate(VectorAggregation("topk", VectorFn(0), None, 2), data)
    assert (top.values[:, 0].tolist(), top.ordered) == ([3.0, 2.0], True)
    bottom = aggregate(VectorAggregation("bottomk", VectorFn(0), None, 2), data)
    assert bottom.values[:, 0].tolist() == [1.0, 2.0]


def test_sort_keeps_the_order_of_equals_and_leaves_ranges_alone() -> None:
    data = matrix({("x", "p"): [2.0], ("x", "q"): [1.0], ("y", "p"): [2.0]})
    rising = aggregate(VectorAggregation("sort", VectorFn(0)), data)
    assert [dict(labels)["b"] for labels in rising.labels] == ["q", "p", "p"]
    assert [dict(labels)["a"] for labels in rising.labels] == ["x", "x", "y"]
    falling = aggregate(VectorAggregation("sort_desc", VectorFn(0)), data)
    assert falling.values[:, 0].tolist() == [2.0, 2.0, 1.0]
    several = matrix({("x", "p"): [2.0, 1.0], ("x", "q"): [1.0, 2.0]})
    assert aggregate(VectorAggregation("sort", VectorFn(0)), several) is several


def test_nothing_in_nothing_out() -> None:
    for op in (*REDUCTIONS, "topk", "sort"):
        parameter = 1 if op == "topk" else None
        found = aggregate(VectorAggregation(op, VectorFn(0), None, parameter), Matrix.empty(3))  # type: ignore[arg-type]
        assert found.values.shape == (0, 3)


def test_by_leaves_out_absent_labels() -> None:
    assert grouped((("a", "1"),), Grouping(False, ("a", "z"))) == (("a", "1"),)
    assert grouped((("a", "1"), ("b", "2")), Grouping(True, ("a", "z"))) == (("b", "2"),)
