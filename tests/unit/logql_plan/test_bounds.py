"""Large matrices: worked on in parts, with nothing that grows beyond the answer, and ended when the query is over."""

from __future__ import annotations

import numpy as np
import pytest

from atalaia.logql import binary, matrix
from atalaia.logql.errors import Impossible
from atalaia.logql.matrix import Matrix, aggregate
from atalaia.logql.overtime import of_samples
from atalaia.logql.parse import parse
from atalaia.logql.slide import slide_samples
from atalaia.logql.tree import Binary, RangeAggregation, VectorAggregation, VectorOp
from atalaia.logql.window import Grid


class Over(Exception):
    """The query is over."""


def over() -> None:
    raise Over


def random_matrix(series: int, moments: int, present: float = 0.7) -> Matrix:
    draws = np.random.default_rng(series * moments)
    there = draws.random((series, moments)) < present
    values = np.where(there, draws.integers(0, 9, (series, moments)).astype(float), np.nan)
    return Matrix(tuple((("n", str(n)),) for n in range(series)), values, there)


def aggregation(op: VectorOp, parameter: float | None = None) -> VectorAggregation:
    found = parse(f"{op}({'3, ' if parameter else ''}vector(1))")
    assert isinstance(found, VectorAggregation)
    return found


@pytest.mark.parametrize("op", ["sum", "stddev", "avg", "max", "topk", "bottomk"])
def test_parts_of_a_matrix_make_the_whole(op: VectorOp, monkeypatch: pytest.MonkeyPatch) -> None:
    tree, given = aggregation(op, 3 if op.endswith("k") else None), random_matrix(7, 50)
    whole = aggregate(tree, given)
    monkeypatch.setattr(matrix, "_CELLS", 20)
    parts = aggregate(tree, given)
    assert parts.labels == whole.labels
    assert np.array_equal(parts.values, whole.values, equal_nan=True)
    assert np.array_equal(parts.present, whole.present)


def joined(text: str) -> Binary:
    found = parse(f"vector(1) {text} vector(1)")
    assert isinstance(found, Binary)
    return found


def test_series_that_never_meet_give_nothing() -> None:
    """Each series of the one side has a sample where no other has one: all pairs match, few have a sample."""
    one = Matrix(tuple((("n", str(n)),) for n in range(40)), np.ones((40, 40)), np.eye(40, dtype=bool))
    found = binary.binary(joined("* on() group_left(n)"), one, one)
    assert len(found.labels) == 40
    assert found.present.sum() == 40


def test_an_operation_of_too_many_points_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binary, "MAX_POINTS", 100)
    given = random_matrix(5, 20)
    assert len(binary.binary(joined("+"), given, given).labels) == 5
    with pytest.raises(Impossible, match="more than 100 points"):
        binary.binary(joined("+"), random_matrix(6, 20), random_matrix(6, 20))


def test_what_takes_long_ends_with_the_query() -> None:
    given = random_matrix(5, 20)
    for op, parameter in (("sum", None), ("topk", 3)):
        with pytest.raises(Over):
            aggregate(aggregation(op, parameter), given, over)  # type: ignore[arg-type]  # a literal
    with pytest.raises(Over):
        binary.binary(joined("+"), given, given, over)
    tree = parse('quantile_over_time(0.5, {a="b"} | unwrap v [1m])')
    assert isinstance(tree, RangeAggregation)
    samples = (np.arange(9), np.arange(9), np.arange(9.0))
    labels = [(("n", "0"),)]
    with pytest.raises(Over):
        slide_samples(Grid(5, 1, 3, 4), labels, np.zeros(9, int), samples, of_samples(tree), over)
