"""The logfmt parser, against cases checked by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql.extract import logfmt_labels
from atalaia.query.engine import Engine

from .sqlcheck import Entry, labels, log_query, select

# A line, its labels, and whether it is free of faults, so that --strict reads the same.
CASES = [
    ("a=1 b=2", {"a": "1", "b": "2"}, True),
    ("  a=1\tb=2\n", {"a": "1", "b": "2"}, True),
    ('a="x y" b="" c=', {"a": "x y"}, True),
    ('a="say \\"hi\\"" b=1', {"a": 'say "hi"', "b": "1"}, True),
    (r'a="x\n\t\\\/y"', {"a": "x\n\t\\/y"}, True),
    (r'a="\u00e9\ud83d\ude00"', {"a": "é😀"}, True),
    (r'a="\ud83d" b=1', {"a": "\ufffd", "b": "1"}, True),
    ('a="x\ny"', {"a": "x\ny"}, True),
    ("a=1 a=2", {"a": "1"}, True),
    ("a= a=2", {"a": "2"}, True),
    ("bare a=1 other", {"a": "1"}, True),
    ("url=/x?y=z&w=1 b=2", {"url": "/x?y=z&w=1", "b": "2"}, True),
    ("a=b=", {"a": "b="}, True),
    ('a="b"c=d', {"a": "b", "c": "d"}, True),
    ("a-b=1 c.d=2 1e=3 é=4", {"a_b": "1", "c_d": "2", "_1e": "3", "_": "4"}, True),
    ("a=x\u00a0y", {"a": "x\u00a0y"}, True),
    ("a=1\x01b=2", {"a": "1", "b": "2"}, True),
    ("a=\\n", {"a": "\\n"}, True),
    ("a='x y'", {"a": "'x"}, True),
    ("", {}, True),
    ("   ", {}, True),
    ("=1 b=2", {"b": "2"}, False),
    ("a=1 = b=2", {"a": "1", "b": "2"}, False),
    ('a"b=1 c=2', {"c": "2"}, False),
    ('a=x"y b=2', {"b": "2"}, False),
    ('"a"=1 b=2', {"b": "2"}, False),
    (r'a="\d" b=2', {"b": "2"}, False),
    ('a=1 b="open c=2', {"a": "1"}, False),
    ('a=1 b="', {"a": "1"}, False),
    ('a=""" b=1', {"b": "1"}, False),
]


@pytest.mark.parametrize(("line", "found", "faultless"), CASES)
def test_lines(engine: Engine, line: str, found: dict[str, str], faultless: bool) -> None:
    assert logfmt_labels(line) == found
    strict = logfmt_labels(line, strict=True)
    assert ("__error__" not in strict) == faultless
    if not faultless:
        assert strict["__error__"] == "LogfmtParserErr"
        assert strict["__error_details__"].startswith("logfmt syntax error at pos ")
    error = None if faultless else "LogfmtParserErr"
    names = list(found)
    rows = select(engine, log_query('{app="z"} | logfmt'), [Entry(line)], names)
    assert rows == [[0, *found.values(), None]]
    assert [row[-1] for row in select(engine, log_query('{app="z"} | logfmt --strict'), [Entry(line)])] == [error]


def test_strict_keeps_what_came_before_the_fault() -> None:
    found = logfmt_labels("a=1 =x b=2", strict=True)
    details = "logfmt syntax error at pos 5 : unexpected '='"
    assert found == {"a": "1", "__error__": "LogfmtParserErr", "__error_details__": details}


@pytest.mark.parametrize(
    ("line", "place", "what"),
    [
        ("é=1 =x", 6, "unexpected '='"),
        ('a"b=1', 2, "unexpected '\"'"),
        ('a=1 b=x"y', 8, "unexpected '\"'"),
        ('a=1 b="x', 9, "unterminated quoted value"),
        (r'a="\d" b=1', 7, "invalid quoted value"),
    ],
)
def test_details_of_a_fault(line: str, place: int, what: str) -> None:
    assert logfmt_labels(line, strict=True)["__error_details__"] == f"logfmt syntax error at pos {place} : {what}"


def test_keep_empty(engine: Engine) -> None:
    assert logfmt_labels('a b= c="" d=1', keep_empty=True) == {"a": "", "b": "", "c": "", "d": "1"}
    found = select(engine, log_query('{app="a"} | logfmt --keep-empty'), [Entry("a b= d=1")], ["a", "b", "c", "d"])
    assert found == [[0, "", "", None, "1", None]]


def test_expressions(engine: Engine) -> None:
    query = '{app="a"} | logfmt x="a-b", app="c", y'
    found = select(engine, log_query(query), [Entry("a-b=1 c=2 y=3 z=4")], ["x", "app", "app_extracted", "y", "z"])
    assert found == [[0, "1", "a", "2", "3", None, None]]
    assert labels(query, Entry("a-b=1 c=2 y=3 z=4")) == {"x": "1", "app": "a", "app_extracted": "2", "y": "3"}

    # What is not found is empty, unless the stream or metadata have it; a later parser does not change that.
    assert labels(query, Entry("q=1")) == {"app": "a", "x": "", "y": ""}
    assert labels(query, Entry("q=1", metadata={"y": "m"})) == {"app": "a", "x": "", "y": "m"}
    assert labels(f"{query} | logfmt", Entry("x=1 y=2")) == {"app": "a", "x": "", "y": "2"}
    entries = [Entry("q=1"), Entry("q=1", metadata={"y": "m"}), Entry("x=1 y=2")]
    found = select(engine, log_query(f"{query} | logfmt"), entries, ["x", "y", "y_extracted", "q"])
    assert found == [[0, "", "", None, "1", None], [1, "", "m", None, "1", None], [2, "", "2", None, None, None]]


KEYS = st.from_regex(r"[a-z_]{1,4}", fullmatch=True)


@given(st.dictionaries(KEYS, st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1, max_size=8)))
def test_what_is_quoted_reads_back(pairs: dict[str, str]) -> None:
    quoted = {key: value.replace("\\", "\\\\").replace('"', '\\"') for key, value in pairs.items()}
    line = " ".join(f'{key}="{value}"' for key, value in quoted.items())
    assert logfmt_labels(line, strict=True) == pairs


@given(st.text(st.sampled_from('ab1=" \\\n\t.é'), max_size=30))
@settings(max_examples=300)
def test_any_line_is_read(line: str) -> None:
    found = logfmt_labels(line)
    assert "" not in found
    strict = logfmt_labels(line, strict=True)
    if "__error__" not in strict:
        assert strict == found


def test_long_lines_take_time_in_proportion() -> None:
    for line in ('a="' * 50_000, "a=" * 50_000 + '"', '"' * 100_000, "\\" * 100_000, 'a="' + "\\" * 100_001):
        logfmt_labels(line)
