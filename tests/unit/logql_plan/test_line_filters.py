"""Line filters in SQL beside plain Python and RE2."""

from __future__ import annotations

import pytest
import re2
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from atalaia.logql.addresses import holds_address
from atalaia.logql.checks import pattern_filter_problem, regex_problem
from atalaia.logql.errors import TooComplex
from atalaia.logql.linefilters import MAX_ALTERNATIVES, line_filter
from atalaia.logql.patterns import is_like, like_expression
from atalaia.logql.tree import LineFilter, LineMatch, LogQuery, Matcher, Selector
from atalaia.query.engine import Engine

from .sqlcheck import Entry, passing, select

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


# A pattern, lines that are like it, lines that are not.
LIKE = [
    ("<_>", ["a", " ", "\n"], [""]),
    ("", [""], ["a"]),
    ("GET /a", ["GET /a"], ["GET /a ", " GET /a", "GET /ab", ""]),
    ("GET <_>", ["GET x", "GET  "], ["GET ", "xGET y", "get x"]),
    ("<_> 200", ["GET 200", "\n 200"], [" 200", "GET 200 ", "GET 2000"]),
    ("<_>ab<_>", ["xabx", "x\nab\ny"], ["abx", "xab", "ab", "abxabx"]),  # the first place of a literal counts
    ("a<_>b", ["axb", "a b"], ["ab", "axbb", "axby"]),
    ("<_>é<_>日", ["xée\u0301日", "\u0301éx日"], ["é日", "xé日"]),
    ("<_>'<_>", ["x'y"], ["'", "x'"]),
]


@pytest.mark.parametrize(("pattern", "like", "unlike"), LIKE)
def test_patterns(engine: Engine, pattern: str, like: list[str], unlike: list[str]) -> None:
    assert run(engine, "|>", [pattern], like + unlike) == like
    assert run(engine, "!>", [pattern], like + unlike) == unlike
    assert all(is_like(pattern, line) for line in like)
    assert not any(is_like(pattern, line) for line in unlike)
    assert all(re2.search(like_expression(pattern), line) for line in like)


@given(
    st.lists(st.sampled_from(["<_>", "a", "b", "ab", "é", "e\u0301", "'", ".", "\n", "日"]), max_size=5).map("".join),
    st.lists(
        st.lists(st.sampled_from([*"abé'.\n日", "e\u0301", "\0"]), max_size=7).map("".join), min_size=1, max_size=9
    ),
)
@settings(max_examples=80, deadline=None)
def test_random_patterns_in_sql_and_in_python(engine: Engine, pattern: str, lines: list[str]) -> None:
    assume(pattern_filter_problem(pattern) is None)
    like = [line for line in lines if is_like(pattern, line)]
    assert run(engine, "|>", [pattern], lines) == like
    assert all(re2.search(like_expression(pattern), line) for line in like)


# ip("…"), texts that hold such an address, texts that do not.
ADDRESSES = [
    (
        "10.0.0.7",
        ["10.0.0.7", "from 10.0.0.7:80", "x10.0.0.7", "a.b 10.0.0.7,"],
        ["10.0.0.70", "10.0.0.7.", "10.0.0", ""],
    ),
    ("10.0.0.5-10.0.1.2", ["10.0.0.5", "10.0.0.255", "10.0.1.2"], ["10.0.0.4", "10.0.1.3", "11.0.0.6", "10.0.0.05"]),
    ("192.168.0.0/16", ["a 192.168.4.5 b", "10.0.0.1 192.168.0.0"], ["192.169.0.0", "192.168.4"]),
    ("0.0.0.0/0", ["1.2.3.4"], ["::1", "1.2.3", "256.1.1.1"]),
    ("10.0.0.0/30", ["10.0.0.3"], ["10.0.0.4", "10.0.0.30"]),
    ("::1", ["::1", "host=::1"], ["::2", "1.1.1.1"]),
    ("2001:db8::/32", ["[2001:db8::5]:80", "2001:DB8:0:0:0:0:0:1"], ["2001:db9::1", "2001", "db8"]),
]


@pytest.mark.parametrize(("wanted", "held", "others"), ADDRESSES)
def test_addresses(engine: Engine, wanted: str, held: list[str], others: list[str]) -> None:
    entries = [Entry(line) for line in held + others]
    assert passing(engine, f'{{app="a"}} |= ip("{wanted}")', entries) == held
    assert passing(engine, f'{{app="a"}} != ip("{wanted}")', entries) == others
    assert passing(engine, f'{{app="a"}} |= "none" or ip("{wanted}")', entries) == held
    assert [line for line in held + others if holds_address(line, wanted)] == held


def test_too_many_alternatives_are_refused_before_they_are_planned() -> None:
    stage = LineFilter("|=", (LineMatch("x"),) * (MAX_ALTERNATIVES + 1))
    with pytest.raises(TooComplex, match="501 alternatives"):
        line_filter(stage)
