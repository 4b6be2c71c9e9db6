"""Trees of metric queries: what is pushed into the leaf, and what is not built."""

from __future__ import annotations

import numpy as np
import pytest

from atalaia.logql.errors import NotBuilt
from atalaia.logql.evaluate import evaluate
from atalaia.logql.matrix import Matrix
from atalaia.logql.parse import parse
from atalaia.logql.plan import needs_parsing
from atalaia.logql.tree import Grouping, LogQuery, RangeAggregation

S = 'count_over_time({app="a"}[1m])'


def ask(query: str) -> tuple[Matrix, list[Grouping | None]]:
    """The answer when every leaf is two series, 1 and 2 at both moments, and how the leaves were to be grouped."""
    asked: list[Grouping | None] = []

    def leaf(tree: RangeAggregation, grouping: Grouping | None) -> Matrix:
        asked.append(grouping)
        labels = ((("app", "a"), ("n", "1")), (("app", "a"), ("n", "2")))
        return Matrix(labels, np.array([[1.0, 1.0], [2.0, 2.0]]), np.ones((2, 2), bool))

    tree = parse(query)
    assert not isinstance(tree, LogQuery)
    return evaluate(tree, leaf, 2), asked


def test_a_sum_of_counts_groups_in_the_leaf() -> None:
    assert ask(f"sum by (app) ({S})")[1] == [Grouping(False, ("app",))]
    assert ask(f"sum({S})")[1] == [Grouping(False, ())]
    assert ask(f"sum without (n) ({S})")[1] == [None]
    assert ask(f"max by (app) ({S})")[1] == [None]
    assert ask(f"sum(max by (n) ({S}))")[1] == [None]


def test_aggregations_are_nested() -> None:
    found, _ = ask(f"max(sum without (n) ({S}))")
    assert (found.labels, found.values.tolist()) == (((),), [[3.0, 3.0]])


def test_vector_is_one_series() -> None:
    found, _ = ask("vector(1.5)")
    assert (found.labels, found.values.tolist()) == (((),), [[1.5, 1.5]])


@pytest.mark.parametrize(
    "query", ["1", "1 + 1", f"{S} + 1", f"{S} > bool 1", f"{S} and {S}", f'label_replace({S}, "a", "b", "c", "d")']
)
def test_what_is_not_built_says_so(query: str) -> None:
    with pytest.raises(NotBuilt, match="is not built yet"):
        ask(query)


@pytest.mark.parametrize(
    ("stages", "grouping", "needed"),
    [
        ("| json", None, True),
        ("| json", Grouping(False, ()), False),
        ("| json", Grouping(False, ("x",)), True),
        ("| json", Grouping(True, ()), True),
        ('| json | x="1"', Grouping(False, ()), True),
        ('|= "x" | json', Grouping(False, ()), False),
    ],
)
def test_parsers_run_when_a_label_is_asked_for(stages: str, grouping: Grouping | None, needed: bool) -> None:
    tree = parse(f'{{app="a"}} {stages}')
    assert isinstance(tree, LogQuery)
    assert needs_parsing(tree, grouping) is needed
