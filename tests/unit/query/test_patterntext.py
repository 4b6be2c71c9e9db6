"""Templates as patterns: what each becomes, and that it finds every line of its template."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql.parse import parse
from atalaia.logql.patterns import is_like
from atalaia.logql.printer import print_query
from atalaia.logql.tree import LineFilter, LineMatch, LogQuery, Matcher, Selector
from atalaia.query.patterntext import LONGEST, pattern_of
from atalaia.store.templates import masked


def patterns(lines: list[str]) -> list[str]:
    return [pattern_of(text) for part in masked(pa.array(lines, pa.utf8())) for text in part.to_pylist()]


@pytest.mark.parametrize(
    ("line", "pattern"),
    [
        ("connection closed", "connection closed"),
        ("duration: 12.5 ms", "duration: <_> ms"),
        ("2024-03-30T23:03:40.123Z up", "<_> up"),
        ("2024-03-30 23:03:40 UTC [4711] LOG:  up", "<_> <_> UTC [<_>] LOG:  up"),
        ("10.0.0.1:5432 -> 10.0.0.2", "<_> -> <_>"),
        ("id 6ba7b810-9dad-11d1-80b4-00c04fd430c8!", "id <_>!"),  # all five groups have a digit
        ("listening on 10.0.0.1.", "listening on <_>.<_>.<_>.<_>."),  # merged, the last sign would be found too early
        ("v1.2.beta", "<_>.<_>.beta"),  # .beta could stand in 1.beta2.beta
        ("v1.2 beta", "<_> beta"),
        ("x=-5", "x=-<_>"),
        ("", ""),
        ("12", "<_>"),
        ("é7é", "é<_>é"),
        ("a <b> 7", "a <_>"),  # <b> would be a capture
        ("<13>Oct 11", "<<_>>Oct <_>"),
        ("\x11abc", "<_>"),
        ("1" + "é" * LONGEST + "2", "<_>" + "é" * (LONGEST - 1) + "<_>"),
    ],
)
def test_what_templates_become(line: str, pattern: str) -> None:
    assert patterns([line]) == [pattern]


_TEXT = st.lists(
    st.sampled_from(["a", "b1", "22", ".", ":", "-", " ", "<", ">", "_", "<b>", "<_>", "\x11", "é", "\n", "/", ","]),
    max_size=14,
).map("".join)


@settings(deadline=None)
@given(st.lists(_TEXT, min_size=1, max_size=8))
def test_a_pattern_finds_the_lines_of_its_template(lines: list[str]) -> None:
    for line, pattern in zip(lines, patterns(lines), strict=True):
        assert is_like(pattern, line), (line, pattern)


@settings(deadline=None)
@given(_TEXT)
def test_a_pattern_can_be_asked_for(line: str) -> None:
    (pattern,) = patterns([line])
    query = LogQuery(Selector((Matcher("a", "=", "b"),)), (LineFilter("|>", (LineMatch(pattern),)),))
    assert parse(print_query(query)) == query
