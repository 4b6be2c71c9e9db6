"""regexp, pattern, unpack, and two parsers in a row: SQL beside Python, and cases checked by hand."""

from __future__ import annotations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from atalaia.logql.checks import pattern_stage_problem
from atalaia.query.engine import Engine

from .sqlcheck import Entry, labels, log_query, select

# A stage, a line, what is found in it.
CASES = [
    (r"regexp `(?P<a>\w+)`", "x y", {"a": "x"}),
    (r"regexp `(?P<a>\d+)`", "x y", {}),
    (r"regexp `(?P<a>\d+) (?P<b>\d*)`", "1 2 3", {"a": "1", "b": "2"}),
    (r"regexp `(?P<a>\d+) (?P<b>\d*)`", "1 x", {"a": "1", "b": ""}),
    (r"regexp `x(?P<a>y)?`", "x", {"a": ""}),
    (r"regexp `(?P<a>y)|(?P<b>x)`", "x", {"a": "", "b": "x"}),
    (r"regexp `(x)(?P<a>.)(?:y)`", "xzy", {"a": "z"}),
    (r"regexp `^a(?P<a>.*)$`", "a\nb", {}),
    (r"regexp `(?s)^a(?P<a>.*)$`", "a\nb", {"a": "\nb"}),
    (r"regexp `(?i)É(?P<a>.)`", "éß", {"a": "ß"}),
    ("pattern `<a> <b>`", "x y z", {"a": "x", "b": "y z"}),
    ("pattern `<a> <_> <b>`", "x y z", {"a": "x", "b": "z"}),
    ("pattern `<a> - <b> end`", "x - y", {"a": "x", "b": "y"}),  # the literal behind is missing: up to the end
    ("pattern `<a> - <b>`", "x", {"a": "x"}),  # and what is behind that finds nothing
    ("pattern `[<a>] <b>`", "[x] y", {"a": "x", "b": "y"}),
    ("pattern `[<a>] <b>`", "([x] y", {}),
    ("pattern `<a>=<b>`", "==", {"a": "", "b": "="}),
    ("pattern `<a>`", "", {}),
    ("pattern `<<a>> <b>`", "<x> 'y'", {"a": "x", "b": "'y'"}),
    ("pattern `é<a>日<b>`", "ée\u0301日\U0001f600", {"a": "e\u0301", "b": "\U0001f600"}),
]


@pytest.mark.parametrize(("stage", "line", "found"), CASES)
def test_stages(engine: Engine, stage: str, line: str, found: dict[str, str]) -> None:
    query, entry = f'{{app="a"}} | {stage}', Entry(line, {})
    assert labels(query, entry) == found
    assert select(engine, log_query(query), [entry], ["a", "b"]) == [[0, found.get("a"), found.get("b"), None]]


PIECES = st.sampled_from(["<a>", "<b>", "<_>", " ", "x", "=", "é", "'", "\\", "xx"])
LINES = st.lists(st.sampled_from([*" x=é'\\y\n日", "xx"]), max_size=8).map("".join)


@given(st.lists(PIECES, min_size=1, max_size=6).map("".join), st.lists(LINES, min_size=1, max_size=5))
@settings(max_examples=80, deadline=None)
def test_random_patterns(engine: Engine, pattern: str, lines: list[str]) -> None:
    assume(pattern_stage_problem(pattern) is None)
    query = log_query('{app="a"} | pattern "' + pattern.replace("\\", "\\\\") + '"')
    text = '{app="a"} | pattern "' + pattern.replace("\\", "\\\\") + '"'
    entries = [Entry(line, {}) for line in lines]
    for entry, (_, *values, _error) in zip(entries, select(engine, query, entries, ["a", "b"]), strict=True):
        found = labels(text, entry)
        assert values == [found.get("a"), found.get("b")]


# A line, the line behind `unpack`, its labels.
PACKED = [
    ('{"a":"1","n":2,"_entry":"text"}', "text", {"a": "1"}),
    ('{"a":"1"}', '{"a":"1"}', {}),  # nothing is packed in it
    ('{"_entry":""}', "", {}),
    ('{"a.b":"1","a.b":"2","_entry":"t\\n"}', "t\n", {"a_b": "1"}),
    ('{"_entry":5}', '{"_entry":5}', {}),
]


@pytest.mark.parametrize(("line", "inner", "found"), PACKED)
def test_unpack(line: str, inner: str, found: dict[str, str]) -> None:
    query = '{app="a"} | unpack | label_format line="{{__line__}}"'
    assert labels(query, Entry(line, {})) == {"line": inner, **found}


@pytest.mark.parametrize("line", ["no", "[1]", '"x"', ' {"_entry":"x"}', '{"a":"b","_entry":"x'])
def test_what_is_no_object_is_not_unpacked(line: str) -> None:
    found = labels('{app="a"} | unpack', Entry(line, {}))
    assert found.pop("__error_details__")
    assert found == {"__error__": "JSONParserErr"}


def test_an_empty_line_is_not_unpacked_and_no_error() -> None:
    assert labels('{app="a"} | unpack', Entry("", {})) == {}
