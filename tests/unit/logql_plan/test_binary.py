"""Binary operations and label_replace over small matrices."""

from __future__ import annotations

import math

import numpy as np
import pytest

from atalaia.logql.errors import Impossible
from atalaia.logql.evaluate import evaluate
from atalaia.logql.matrix import Labels, Matrix
from atalaia.logql.parse import parse
from atalaia.logql.tree import Grouping, LogQuery, RangeAggregation

NONE = None
# What each selector's counts are at two moments.
STORED: dict[str, dict[str, list[float | None]]] = {
    "l": {"a=1 m=x": [1, 2], "a=1 m=y": [3, NONE], "a=2 m=x": [NONE, 4]},
    "r": {"a=1": [10, 20], "a=3": [30, 30]},
    "p": {"a=1 m=x pool=p": [10, 10], "a=2 m=x": [5, 5]},
    "t": {"a=1 m=x": [7, NONE], "a=1 m=z": [NONE, 8]},
    "e": {},
}


def labels_of(text: str) -> Labels:
    return tuple(sorted((name, value) for name, _, value in (pair.partition("=") for pair in text.split())))


def leaf(tree: RangeAggregation, _: Grouping | None) -> Matrix:
    rows = STORED[tree.query.selector.matchers[0].value]
    values = np.array([[math.nan if v is None else v for v in row] for row in rows.values()], float).reshape(-1, 2)
    return Matrix(tuple(map(labels_of, rows)), values, ~np.isnan(values))


def ask(query: str) -> dict[str, list[float | None]]:
    """The series of a query in which `l` is short for the counts of {s="l"}."""
    words = [f'count_over_time({{s="{word}"}}[1m])' if word in STORED else word for word in query.split(" ")]
    tree = parse(" ".join(words))
    assert not isinstance(tree, LogQuery)
    found = evaluate(tree, leaf, 2)
    return {
        " ".join(f"{name}={value}" for name, value in labels): [
            float(v) if there else None for v, there in zip(row, has, strict=True)
        ]
        for labels, row, has in zip(found.labels, found.values, found.present, strict=True)
        if has.any()
    }


CASES: list[tuple[str, dict[str, list[float | None]]]] = [
    # ---- with numbers
    ("1 + 2 * 3 ^ 2", {"": [19, 19]}),
    ("7 % 4 - 10", {"": [-7, -7]}),
    ("2 > 1", {"": [1, 1]}),
    ("2 < bool 1", {"": [0, 0]}),
    ("r * 2", {"a=1": [20, 40], "a=3": [60, 60]}),
    ("100 - r", {"a=1": [90, 80], "a=3": [70, 70]}),
    ("r > 15", {"a=1": [None, 20], "a=3": [30, 30]}),
    ("15 < r", {"a=1": [None, 20], "a=3": [30, 30]}),
    ("15 >= bool r", {"a=1": [1, 0], "a=3": [0, 0]}),
    ("e + 1", {}),
    ("sort ( 1 ) or r", {"": [1, 1], "a=1": [10, 20], "a=3": [30, 30]}),
    # ---- one to one
    ("l + l", {"a=1 m=x": [2, 4], "a=1 m=y": [6, None], "a=2 m=x": [None, 8]}),
    ("l + r", {}),
    ("t - on ( a ) r", {"a=1": [-3, -12]}),  # two series, at different moments
    ("t > bool ignoring ( m ) r", {"a=1": [0, 0]}),
    # ---- many to one
    ("l * on ( a ) group_left r", {"a=1 m=x": [10, 40], "a=1 m=y": [30, None]}),
    ("r - on ( a ) group_right l", {"a=1 m=x": [9, 18], "a=1 m=y": [7, None]}),
    ("r > on ( a ) group_right l", {"a=1 m=x": [10, 20], "a=1 m=y": [10, None]}),
    ("l < on ( a ) group_left r", {"a=1 m=x": [1, 2], "a=1 m=y": [3, None]}),
    (
        "l * on ( a, m ) group_left ( pool ) p",
        {"a=1 m=x pool=p": [10, 20], "a=2 m=x": [None, 20]},
    ),
    # ---- sets
    ("l and on ( a ) r", {"a=1 m=x": [1, 2], "a=1 m=y": [3, None]}),
    ("l unless on ( a ) r", {"a=2 m=x": [None, 4]}),
    ("l and t", {"a=1 m=x": [1, None]}),
    ("l unless t", {"a=1 m=x": [None, 2], "a=1 m=y": [3, None], "a=2 m=x": [None, 4]}),
    ("t or r", {"a=1 m=x": [7, None], "a=1 m=z": [None, 8], "a=1": [10, 20], "a=3": [30, 30]}),
    ("t or on ( a ) r", {"a=1 m=x": [7, None], "a=1 m=z": [None, 8], "a=3": [30, 30]}),
    ("t or l", {"a=1 m=x": [7, 2], "a=1 m=y": [3, None], "a=1 m=z": [None, 8], "a=2 m=x": [None, 4]}),
    ("e or r", {"a=1": [10, 20], "a=3": [30, 30]}),
    ("r and e", {}),
    ("r unless e", {"a=1": [10, 20], "a=3": [30, 30]}),
]


@pytest.mark.parametrize(("query", "expected"), CASES)
def test_operations(query: str, expected: dict[str, list[float | None]]) -> None:
    assert ask(query) == expected


@pytest.mark.parametrize("query", ["1 / 0", "0 / 0", "-1 % 0", "(-8) ^ 0.5"])
def test_what_is_no_number(query: str) -> None:
    (found,) = ask(query).values()
    assert all(value is not None and math.isnan(value) for value in found)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            "l + on ( a ) r",
            r"many-to-one matching must be explicit \(group_left/group_right\)",
        ),
        ("r + on ( a ) l", "found duplicate series on the right hand-side"),
        ("l + on ( a ) group_right r", "found duplicate series on the left hand-side"),
        ("l * on ( a ) group_left ( m ) r", "grouping labels must ensure unique matches"),
    ],
)
def test_series_that_cannot_be_told_apart(query: str, message: str) -> None:
    with pytest.raises(Impossible, match=message):
        ask(query)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (('"b"', '"$1"', '"a"', '"(.*)"'), ["a=1 b=1", "a=3 b=3"]),
        (('"b"', '"x${1}y$1z$$"', '"a"', '"(.*)"'), ["a=1 b=x1y$", "a=3 b=x3y$"]),
        (('"b"', '"$name"', '"a"', '"(?P<name>1)"'), ["a=1 b=1", "a=3"]),
        (('"a"', '""', '"a"', '"1"'), ["", "a=3"]),
        (('"b"', '"none"', '"c"', '""'), ["a=1 b=none", "a=3 b=none"]),
        (('"b"', '"$1"', '"a"', '"x"'), ["a=1", "a=3"]),
        (('"b"', '"$2$9"', '"a"', '"(.)(.)?"'), ["a=1", "a=3"]),
    ],
)
def test_label_replace(arguments: tuple[str, ...], expected: list[str]) -> None:
    assert list(ask(f"label_replace( r , {', '.join(arguments)})")) == expected


def test_label_replace_may_not_make_two_series_one() -> None:
    with pytest.raises(Impossible):
        ask('label_replace( r , "a", "x", "a", ".*")')
    assert ask('label_replace( t , "m", "w", "m", ".*")') == {"a=1 m=w": [7, 8]}
