"""Line filters in SQL beside plain Python and RE2."""

from __future__ import annotations

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.api.engine import Engine
from atalaia.logql.checks import regex_problem
from atalaia.logql.errors import NotBuilt, TooComplex
from atalaia.logql.plan import MAX_STAGES, line_filter
from atalaia.logql.tree import LineFilter, LineMatch, LogQuery, Matcher, Selector

from .sqlcheck import Entry, log_query, passing, select

NASTY = [
    "", "a", "A", "'", "''", '"', "\\", "\\\\", "%", "_", "a%b", "a_b", "it's", "\0", "a\0b", "\n", "a\nb", "a\r\nb",
    "é", "É", "ß", "日本", "\u0301", "e\u0301", "(?i)", ".*", "[a]", "$1", "^a$", "a|b", "{x}", "; DROP TABLE t", "--",
    "/* x */", "ſ", "K", "\ufeff", "\U0001f600", " ", "\t", "||", "chr(0)", "' || chr(0) || '",
]  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from(NASTY),
    st.text(st.characters(codec="utf-8"), max_size=6),
    st.lists(st.sampled_from(NASTY), max_size=4).map("".join),
)
REGEXES = [
    "", "a", "a.b", "a.*b", "(?s)a.b", "(?s)a.*b", "(?i)É", "(?i)k", "(?i)ss", "^a", "b$", "^$", "^.$", "(?m)^b$",
    "(?m)$", r"\n", r"a\x00b", r"\.", r"\\", "'", "%", "_", "a%b", "[^a]", r"\d", r"\w+", r"\bé", r"\pL", r"\p{Greek}",
    "[[:alpha:]]", ".", "^.", ".$", "^a.*", ".*b$", "a|b", "(a|b)*", r"\Qa.b\E", "(?P<x>a)", "a{2}", r"\z", r"\A",
    "日.", "(?U)a+", "^(?i)a", "a\\z", "x*", "[\\]]", r"\x{1F600}", "(?i)it's", ".*a.*", "a.", "b.*", "^a.b$",
]  # fmt: skip


def run(engine: Engine, op: str, alternatives: list[str], lines: list[str]) -> list[str]:
    stage = LineFilter(op, tuple(map(LineMatch, alternatives)))  # type: ignore[arg-type]
    query = LogQuery(Selector((Matcher("app", "=", "a"),)), (stage,))
    entries = [Entry(line) for line in lines]
    return [lines[row[0]] for row in select(engine, query, entries)]  # type: ignore[call-overload]


@given(st.lists(TEXTS, min_size=1, max_size=3), st.lists(TEXTS, max_size=8))
@settings(max_examples=50, deadline=None)
def test_texts_are_found_as_python_finds_them(engine: Engine, needles: list[str], lines: list[str]) -> None:
    lines += needles + [f"x{needle}y" for needle in needles]
    found = [line for line in lines if any(needle in line for needle in needles)]
    assert run(engine, "|=", needles, lines) == found
    assert run(engine, "!=", needles, lines) == [line for line in lines if not any(n in line for n in needles)]


@pytest.mark.parametrize("needle", NASTY)
def test_every_nasty_needle_among_nasty_lines(engine: Engine, needle: str) -> None:
    assert run(engine, "|=", [needle], NASTY) == [line for line in NASTY if needle in line]


def test_regular_expressions_are_unanchored_re2_and_a_dot_takes_no_newline(engine: Engine) -> None:
    lines = NASTY + [f"x{line}y" for line in NASTY] + ["a.b", "axb", "aaa", "ab", "a\n", "\na", "b\na\nb", "ΑΒΓ", "K"]
    for regex in REGEXES:
        matcher = re2.compile(regex)
        found = [line for line in lines if matcher.search(line)]
        assert run(engine, "|~", [regex], lines) == found, regex
        assert run(engine, "!~", [regex], lines) == [line for line in lines if line not in found], regex
    assert run(engine, "|~", ["a.b"], ["a\nb", "axb"]) == ["axb"]
    assert run(engine, "|~", ["(?s)a.b"], ["a\nb", "axb"]) == ["a\nb", "axb"]


@given(
    st.lists(st.sampled_from([r"a", r"b", ".", r"\n", "[^a]", "^", "$", "(?i)A", "(?s).", "%", "'", "é"]), max_size=4),
    st.lists(st.sampled_from([*"abA%'é\n\0", "_", "\\"]), max_size=6).map("".join),
)
@settings(max_examples=50, deadline=None)
def test_random_regular_expressions_agree_with_re2(engine: Engine, parts: list[str], line: str) -> None:
    regex = "".join(parts)
    assert regex_problem(regex) is None
    assert bool(run(engine, "|~", [regex], [line])) == (re2.search(regex, line) is not None)


def test_alternatives_of_regular_expressions(engine: Engine) -> None:
    lines = ["one", "two", "three"]
    assert run(engine, "|~", ["^o", "ee$"], lines) == ["one", "three"]
    assert run(engine, "!~", ["^o", "ee$"], lines) == ["two"]


def test_filters_are_chained(engine: Engine) -> None:
    entries = [Entry("GET /a 200"), Entry("GET /b 500"), Entry("POST /b 500")]
    query = '{app="a"} |= "GET" != "200" |~ "5[0-9]{2}$"'
    assert passing(engine, query, entries) == ["GET /b 500"]


@pytest.mark.parametrize("stage", ['|> "<_>"', '!> "<_>"', '|= ip("10.0.0.0/8")'])
def test_what_is_not_built_says_so(stage: str) -> None:
    query = log_query(f'{{app="a"}} {stage}')
    with pytest.raises(NotBuilt, match="is not built yet"):
        line_filter(query.stages[0])  # type: ignore[arg-type]


def test_too_many_alternatives_are_refused_before_they_are_planned() -> None:
    stage = LineFilter("|=", (LineMatch("x"),) * (MAX_STAGES + 1))
    with pytest.raises(TooComplex, match="501 alternatives"):
        line_filter(stage)
