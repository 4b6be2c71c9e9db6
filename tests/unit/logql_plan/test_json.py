"""The json parser: hand-checked cases, and the SQL of a label beside the Python of all labels for random lines."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql.extract import json_labels, json_value
from atalaia.query.engine import Engine

from .sqlcheck import Entry, labels, log_query, select

FLAT = [
    ('{"a":"b"}', {"a": "b"}),
    ('{"a":{"b":{"c":1}}}', {"a_b_c": "1"}),
    ('{"a":[1,{"b":2}],"c":3}', {"c": "3"}),
    ('{"a":null,"b":""}', {"b": ""}),
    ('{"t":true,"f":false}', {"t": "true", "f": "false"}),
    ('{"a":1.50,"b":1e5,"c":-0,"d":0.10E+2}', {"a": "1.50", "b": "1e5", "c": "-0", "d": "0.10E+2"}),
    ('{"a":123456789012345678901234567890}', {"a": "123456789012345678901234567890"}),
    ('{"a-b":1,"c.d":2,"e f":3,"é":4}', {"a_b": "1", "c_d": "2", "e_f": "3", "_": "4"}),
    ('{"1a":1," b ":2,"":3}', {"_1a": "1", "b": "2"}),
    ('{"a":1,"a":2}', {"a": "1"}),
    ('{"a":[],"a":2}', {"a": "2"}),
    ('{"a":{"b":1},"a_b":2}', {"a_b": "1"}),
    ('{"a":"\\u00e9\\n\\ud83d\\ude00\\u0000"}', {"a": "é\n😀\0"}),
    (' {"a" : "b"}\n', {"a": "b"}),
    ('{"":{"a":1}," ":{"b":{"":2}}}', {"a": "1", "b_": "2"}),
    ('{" x ":{" y ":1}}', {"x_y": "1"}),
    ("{}", {}),
]
# Loki's parser looks no closer than it must: none of these is JSON, and none is an error.
LOOSE = [
    ('{"a":1,}', {"a": "1"}),
    ('{"a":01,"b":1.2.3,"c":-nan}', {"a": "01", "b": "1.2.3", "c": "-nan"}),
    ('{"a":1} behind', {"a": "1"}),
    ('{"a":"\n"}', {"a": "\n"}),
    ('{"a":"\\ud800","b":"\\x","c":"d"}', {"a": "", "b": "", "c": "d"}),
    ('{"a":[1,],"b":[nonsense],"c":1}', {"c": "1"}),
    ('{"x":{"a":1,} ,"b":true }}', {"x_a": "1", "b": "true"}),
]
OBJECT = "Value looks like object, but can't find closing '}' symbol"
ARRAY = "Value looks like array, but can't find closing ']' symbol"
STRING = "Value looks like string, but can't find closing '\"' symbol"
# What is found before the fault, and Loki's words for the fault.
FAULTY = [
    ("", {}, OBJECT),
    ("x", {}, OBJECT),
    ("null", {}, OBJECT),
    ("1", {}, OBJECT),
    ('"a"', {}, OBJECT),
    ("[]", {}, OBJECT),
    ('[{"a":1}]', {}, OBJECT),
    ("{'a':1}", {}, OBJECT),
    ("{a:1}", {}, OBJECT),
    ('\ufeff{"a":1}', {}, OBJECT),
    ("[" * 100_000, {}, OBJECT),
    ("{", {}, "Malformed JSON error"),
    ('{"a', {}, "Malformed JSON error"),
    ('{"a"', {}, "Malformed JSON error"),
    ('{"a":', {}, "Malformed JSON error"),
    ('{"a" 1}', {}, "Malformed JSON error"),
    ('{"a":1', {"a": "1"}, ARRAY),
    ('{"a":"b","c":"d', {"a": "b"}, STRING),
    ('{"a":1,"b"}', {"a": "1"}, "Malformed JSON error"),
    ('{"a":1 "b":2}', {"a": "1"}, OBJECT),
    ('{"a":1,"b":[1}', {"a": "1"}, ARRAY),
    ('{"a":1,"b":{"c":2}', {"a": "1", "b_c": "2"}, ARRAY),
    ('{"a":1,"b":{"c":2', {"a": "1"}, OBJECT),
    ('{"a":NaN}', {}, "Unknown value type"),
    ('{"a":Infinity}', {}, "Unknown value type"),
    ('{"a":.5}', {}, "Unknown value type"),
    ('{"a":inf}', {}, "Unknown value type"),
    ('{"a":tru}', {}, "Unknown value type"),
    ('{"a":1,"\\x":2}', {"a": "1"}, "Encountered an invalid escape sequence in a string"),
]


@pytest.mark.parametrize(("line", "found"), LOOSE)
def test_what_is_behind_or_between_is_not_looked_at(engine: Engine, line: str, found: dict[str, str]) -> None:
    assert json_labels(line) == found
    names = [*found, "nope"]
    assert select(engine, log_query('{app="z"} | json'), [Entry(line)], names) == [[0, *found.values(), None, None]]


@pytest.mark.parametrize(("line", "found"), FLAT)
def test_objects_become_labels(line: str, found: dict[str, str]) -> None:
    assert json_labels(line) == found


@pytest.mark.parametrize(("line", "before", "details"), FAULTY, ids=lambda value: str(value)[:20])
def test_members_before_a_fault_are_labels(engine: Engine, line: str, before: dict[str, str], details: str) -> None:
    assert json_labels(line) == {**before, "__error__": "JSONParserErr", "__error_details__": details}
    found = select(engine, log_query('{app="z"} | json'), [Entry(line)], [*before, "nope"])
    assert found == [[0, *before.values(), None, "JSONParserErr"]]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", "1.50"), ("b.c", "x"), ('b["c"]', "x"), ("b", '{"c": "x",  "d": [1.0, {"e": 2}]}'), ("b.d[0]", "1.0"),
        ("b.d[1].e", "2"), ("b.d[1]", '{"e": 2}'), ("b.d[2]", ""), ("b.d.x", ""), ("a.x", ""), ("a[0]", ""), ("z", ""),
        ("n", ""), ("t", "true"), ('["k v"]', "é"), ("b.d", '[1.0, {"e": 2}]'), ("q", '"'), ("b . d [ 0 ]", "1.0"),
    ],
)  # fmt: skip
def test_paths(engine: Engine, path: str, found: str) -> None:
    line = '{"q":"\\"", "a": 1.50, "b": {"c": "x",  "d": [1.0, {"e": 2}]}, "n": null, "t": true, "k v": "\\u00e9"}'
    assert json_value(line, path) == found
    query = f'{{app="a"}} | json it=`{path}`'
    assert select(engine, log_query(query), [Entry(line)], ["it"]) == [[0, found, None]]
    assert labels(query, Entry(line)) == {"app": "a", "it": found}


@pytest.mark.parametrize(
    ("line", "found", "error"),
    [
        ("{", "", None),
        ('{"a":1', "1", None),
        ('{"a":1,}', "1", None),
        ('{"b":2,"a":"x', "", "JSONParserErr"),
        ("[1]", "", None),
        ('{"b":NaN,"a":1}', "", None),
        ('{"a":NaN}', "", "JSONParserErr"),
        ('"a"', "", None),
        ('{"b":[1', "", None),
        ('{"a":"\\x"}', "", None),
        ("", None, None),
        ("1", None, "JSONParserErr"),
        (' {"a":1}', None, "JSONParserErr"),
        ("a", None, "JSONParserErr"),
        ("true", None, "JSONParserErr"),
    ],
)
def test_expressions_of_what_is_not_json(engine: Engine, line: str, found: str | None, error: str | None) -> None:
    query = '{app="z"} | json x="a"'
    assert select(engine, log_query(query), [Entry(line)], ["x"]) == [[0, found, error]]
    seen = labels(query, Entry(line))
    assert (seen.get("x"), seen.get("__error__")) == (found, error)


def test_what_nests_too_deep_is_a_fault() -> None:
    found = json_labels('{"a":1,"b":' + '{"c":' * 5000 + "1" + "}" * 5001)
    assert found == {"a": "1", "__error__": "JSONParserErr", "__error_details__": "nested too deep"}


def test_an_index_behind_the_end_of_a_broken_array_ends() -> None:
    assert json_value('{"a":[1,2', "a[999999999]") == ""
    assert json_value('{"a":[1,2', "a[1]") == "2"
    assert json_value("[" + "," * 100_000, "[1]") == ""


KEYS = st.one_of(
    st.sampled_from(["a", "b", "ab", " a", "a ", "\ta", "a\u00a0", "a_b", "_a", "a.b", "1", "", "é", "a_extracted"]),
    st.text(st.characters(codec="utf-8"), max_size=3),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=5),
    st.sampled_from([", }", ",]", ": nan", '": ', "[ -inf", "null", "\\", '"', "a\0b", "{", '{"a":1}']),
)
DOCUMENTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.lists(st.tuples(KEYS, inner), max_size=4), max_leaves=8
)
OBJECTS = st.lists(st.tuples(KEYS, DOCUMENTS), max_size=5).map(tuple)


def written(value: Any, ascii_only: bool) -> str:
    """A tuple, or a list of pairs, is an object, whose keys may be equal."""
    if isinstance(value, tuple) or (isinstance(value, list) and value and isinstance(value[0], tuple)):
        pairs = (f"{json.dumps(key, ensure_ascii=ascii_only)}:{written(item, ascii_only)}" for key, item in value)
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(written(item, ascii_only) for item in value) + "]"
    return json.dumps(value, ensure_ascii=ascii_only)


LINES = st.builds(written, OBJECTS, st.booleans())
BROKEN = st.builds(
    lambda line, at, text: line[: at % (len(line) + 1)] + text + line[at % (len(line) + 1) :],
    LINES,
    st.integers(0, 1000),
    st.sampled_from([",", "}", "{", '"', ":", " ", "NaN", "-Infinity", "\\", "0", ".", "1.5", ",]", ",}", "\n"]),
)
NAMES = ["a", "b", "ab", "a_b", "_a", "a_extracted", "_1", "_", "nope"]


@given(st.lists(LINES | BROKEN, min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_sql_finds_the_labels_that_python_finds(engine: Engine, lines: list[str]) -> None:
    found = select(engine, log_query('{app="a"} | json'), [Entry(line) for line in lines], NAMES)
    for line, (_, *values, error) in zip(lines, found, strict=True):
        expected = json_labels(line)
        assert dict(zip(NAMES, values, strict=True)) == {name: expected.get(name) for name in NAMES}
        assert error == expected.get("__error__")


@given(OBJECTS)
@settings(max_examples=80, deadline=None)
def test_flattening_beside_a_plain_walk(data: tuple[tuple[str, Any], ...]) -> None:
    line = written(data, False)

    def walk(value: Any, path: list[str]) -> None:
        for key, item in value.items():
            if isinstance(item, dict):
                walk(item, [*path, key])
            elif item is not None and not isinstance(item, list):
                name = "_".join([*path, key])
                if name in plain:
                    expected.setdefault(name, item if isinstance(item, str) else json.dumps(item))

    plain = {"a", "ab", "b", "a_b", "a_ab", "b_a"}
    expected: dict[str, str] = {}
    keys = [key for pairs in _objects(data) for key in pairs]
    if any(key.strip() != key or not key for key in keys) or any(len(set(p)) < len(p) for p in _objects(data)):
        return  # blanks around keys and equal keys have their cases above
    walk(json.loads(line), [])
    found = json_labels(line)
    if not any("." in key or "é" in key or "_" in key for key in keys):
        assert {name: value for name, value in found.items() if name in plain} == expected


def _objects(value: Any) -> list[list[str]]:
    if isinstance(value, tuple) or (isinstance(value, list) and value and isinstance(value[0], tuple)):
        return [[key for key, _ in value], *(found for _, item in value for found in _objects(item))]
    return [found for item in value for found in _objects(item)] if isinstance(value, list) else []
