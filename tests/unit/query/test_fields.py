"""Fields: their types, their paths in JSON, and which parser finds them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from atalaia.logql.entry import Entry
from atalaia.logql.extract import json_labels
from atalaia.query.fields import fields, type_of, values


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ("1 -7 +3 0", "int"),
        ("9223372036854775807", "int"),
        ("9223372036854775808", "float"),
        ("1.5 1e3 inf NaN", "float"),
        ("1 2.5", "float"),
        ("true F", "boolean"),
        ("1 true", "string"),
        ("1h30m 5ms -3s", "duration"),
        ("10MB 3KiB 7b", "bytes"),
        ("5m 5MB", "string"),
        ("abc", "string"),
        ("1_000", "string"),
    ],
)
def test_types(found: str, kind: str) -> None:
    assert type_of(set(found.split())) == kind


def test_an_empty_value_is_a_string() -> None:
    assert type_of({""}) == "string"


def test_a_line_that_is_json_up_to_a_fault() -> None:
    (found,) = fields([entry('{"a": 1} and more')], 10)
    assert (found.label, found.parsers, found.path) == ("a", ("json",), ())


def entry(line: str, **labels: str) -> Entry:
    return Entry(0, line, labels, {})


def test_where_fields_come_from() -> None:
    first = Entry(0, '{"a": 1, "app": "x", "b": {"c-d": true}}', {"app": "y"}, {"pod": "p"})
    first.parse({"user": "u", "__error__": "LabelFilterErr"})
    found = {one.label: (one.parsers, one.path) for one in fields([first, entry("a=2 e=f"), entry("no pairs")], 100)}
    assert found == {
        "a": (("json", "logfmt"), ("a",)),
        "app_extracted": (("json",), ("app",)),
        "b_c_d": (("json",), ("b", "c-d")),
        "e": (("logfmt",), ()),
        "pod": ((), ()),
        "user": ((), ()),
    }
    assert values([first, entry("a=2")], "a", 100) == ["1", "2"]
    assert values([first, entry("a=2")], "a", 1) == ["1"]


KEYS = st.lists(st.sampled_from(["a", "b", "_", "-", ".", " ", "1", "é"]), max_size=3).map("".join)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | KEYS | st.lists(st.integers(), max_size=2),
    lambda inner: st.dictionaries(KEYS, inner, max_size=4),
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(KEYS, JSON, max_size=5))
def test_a_path_leads_to_the_value(data: dict[str, Any]) -> None:
    line = json.dumps(data)
    for one in fields([entry(line)], 1000):
        at: Any = data
        for key in one.path:
            at = at[key]
        shown = json.dumps(at) if isinstance(at, (bool, int)) else at
        assert {shown} == one.values == {json_labels(line)[one.label]}
