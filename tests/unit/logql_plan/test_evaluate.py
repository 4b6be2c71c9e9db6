"""Trees of metric queries: what is pushed into the leaf."""

from __future__ import annotations

import numpy as np
import pytest

from atalaia.logql.evaluate import evaluate
from atalaia.logql.matrix import Matrix
from atalaia.logql.parse import parse
from atalaia.logql.plan import needs_parsing, without_unread
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
    assert ask(f"sum without (n) ({S})")[1] == [Grouping(True, ("n",))]
    assert ask(f"max by (app) ({S})")[1] == [None]
    assert ask(f"sum(max by (n) ({S}))")[1] == [None]


def test_aggregations_are_nested() -> None:
    found, _ = ask(f"max(avg without (n) ({S}))")
    assert (found.labels, found.values.tolist()) == (((),), [[1.5, 1.5]])


def test_vector_is_one_series() -> None:
    found, _ = ask("vector(1.5)")
    assert (found.labels, found.values.tolist()) == (((),), [[1.5, 1.5]])


def test_what_is_grouped_in_the_leaf_and_what_is_not() -> None:
    unwrapped = 'over_time({app="a"} | unwrap x [1m])'
    assert ask(f"min by (n) (min_{unwrapped})")[1] == [Grouping(False, ("n",))]
    assert ask(f"sum by (n) (sum_{unwrapped})")[1] == [Grouping(False, ("n",))]
    assert ask(f"sum by (x) (sum_{unwrapped})")[1] == [None]  # x is no label of the series in between
    assert ask(f"min by (n) (max_{unwrapped})")[1] == [None]
    assert ask(f"max(max_{unwrapped} by (n))")[1] == [Grouping(False, ("n",))]


@pytest.mark.parametrize(
    ("op", "stages", "kept"),
    [
        ("count_over_time", "| line_format `x`", ""),
        ("bytes_over_time", "| line_format `x` | decolorize", "| line_format `x` | decolorize"),
        ("count_over_time", "| line_format `x` |= `y`", "| line_format `x` |= `y`"),
        ("rate", "| line_format `x` | drop a | decolorize", "| drop a"),
        ("rate", "| decolorize | line_format `x` | json", "| line_format `x` | json"),
        ("rate", "| decolorize | label_format a=`{{__line__}}`", "| decolorize | label_format a=`{{__line__}}`"),
        ("bytes_rate", "| decolorize | line_format `{{__line__}}`", "| decolorize | line_format `{{__line__}}`"),
    ],
)
def test_a_line_that_nothing_reads_is_not_changed(op: str, stages: str, kept: str) -> None:
    found, expected = (parse(f'{op}({{app="a"}} {text} [1m])') for text in (stages, kept))
    assert isinstance(found, RangeAggregation)
    assert without_unread(found) == expected


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
