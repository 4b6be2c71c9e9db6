"""How a query's answer looks: severities, sketches, labels that are common."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.cli.histogram import Series, bars, show_number, sparklines, stacked, step_for
from atalaia.cli.labels import Common
from atalaia.cli.moments import show_exact, show_short
from atalaia.cli.output import printable
from atalaia.cli.severity import severity_of

S = 10**9


@pytest.mark.parametrize(
    ("labels", "line", "expected"),
    [
        ({"severity": "PANIC"}, "", "fatal"),
        ({"level": "warn"}, "ERROR", "warning"),
        ({"detected_level": "err"}, "", "error"),
        ({"severity": "LOG"}, "ERROR: no", "info"),
        ({}, "2024-01-01 UTC [1] FATAL:  no", "fatal"),
        ({}, "ts=1 level=warn msg=x", "warning"),
        ({}, "errorless terrors", "other"),
        ({"level": "unknown"}, "x", "other"),
        ({}, "x" * 400 + " ERROR", "other"),
    ],
)
def test_severity(labels: dict[str, str], line: str, expected: str) -> None:
    assert severity_of(labels, line) == expected


label_sets = st.lists(st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy")), min_size=1, max_size=6)


@given(st.lists(label_sets, max_size=4))
def test_common_labels_are_what_all_have(batches: list[list[dict[str, str]]]) -> None:
    common, told = Common(), {}
    seen: list[dict[str, str]] = []
    for batch in batches:
        said = common.narrow(batch)
        seen += batch
        expected = {n: v for n, v in seen[0].items() if all(one.get(n) == v for one in seen)}
        told = told if said is None else said
        assert told == expected
        for one in batch:
            assert {**common.rest(one), **expected} == one


def test_bars() -> None:
    series = Series({}, {0: 4.0, 60 * S: 1.0, 180 * S: 0.0})
    assert bars(series, range(0, 181 * S, 60 * S)) == (
        f"TIME      {'':<40}  VALUE\n"
        f"00:00:00  {'█' * 40}  4\n"
        f"00:01:00  {'█' * 10:<40}  1\n"
        f"00:02:00\n"
        f"00:03:00  {'':<40}  0\n"
    )
    assert bars(Series({}, {0: float("nan")}), [0]).splitlines()[1].split() == ["00:00:00", "nan"]


def test_sparklines() -> None:
    some = [Series({"a": "1"}, {0: 0.0, 2: 7.0}), Series({"a": "2"}, {0: 5.0, 1: 5.0, 2: 5.0})]
    lines = sparklines(some, [0, 1, 2]).splitlines()
    assert lines[1:] == ['{a="1"}  ▁ █  0    7    7', '{a="2"}  ███  5    5    5']
    many = sparklines([Series({}, {i: float(i) for i in range(1000)})], range(1000)).splitlines()[1]
    assert len(many.split()[1]) == 80


def test_stacked_without_and_with_colours() -> None:
    some = [Series({"severity": "ERROR"}, {S: 1.0}), Series({"level": "info"}, {S: 2.0}), Series({}, {2 * S: 1.0})]
    plain = stacked(some, [S, 2 * S], S, local=False, colours=False)
    assert plain == (f"00:00:00  {'█' * 40}  3  (1 error, 2 info)\n00:00:01  {'█' * 13 + '▍':<40}  1\n")
    coloured = stacked(some, [S, 2 * S], S, local=False, colours=True).splitlines()
    assert coloured[0] == f"00:00:00  \x1b[31m{'█' * 13}\x1b[0m{'█' * 27}  3  (1 error, 2 info)"


@given(st.integers(0, 10**18), st.integers(1, 10**18))
def test_a_step_makes_at_most_forty_bars(start: int, length: int) -> None:
    step = step_for(start, start + length)
    assert step % S == 0
    assert length / step <= 40


def test_numbers_and_moments() -> None:
    assert [show_number(v) for v in (1234567.0, 0.5, 1234.56, 1 / 3, float("inf"))] == [
        "1,234,567", "0.5", "1,234.6", "0.3333", "inf",
    ]  # fmt: skip
    assert show_exact(1_700_000_000 * S + 5) == "2023-11-14T22:13:20.000000005Z"
    assert show_short(0, 86_400 * S) == "01-01 00:00:00"


def test_what_a_terminal_may_show() -> None:
    assert printable("a\tb \x1b[31mred\x1b[0m \x1b]0;title\x07 \x7f\r") == "a\tb \x1b[31mred\x1b[0m ␛]0;title␇ ␡␍"
