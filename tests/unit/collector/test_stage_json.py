from __future__ import annotations

import json

import jmespath
import numpy as np
import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.collector.stage_support import built, extracted, made, stage

from atalaia.collector.stages import gojson
from atalaia.collector.stages.json import Json, steps
from atalaia.collector.stages.regex import Regex
from atalaia.collector.stages.stage import StageError


@pytest.mark.parametrize(
    ("expressions", "lines", "expected"),
    [
        ({"a": None}, ['{"a":"x"}', '{"b":1}', "no json", "", "null", "[1]", '"a"'], ["x"] + [None] * 6),
        ({"a": ""}, ['{"a":"x"}'], ["x"]),
        ({"a": "b.c"}, ['{"b":{"c":"deep"}}', '{"b":"c"}', '{"b":[{"c":1}]}'], ["deep", None, None]),
        ({"a": "b[1].c"}, ['{"b":[0,{"c":true}]}', '{"b":[0]}', '{"b":{"1":0}}'], ["true", None, None]),
        ({"a": '"x-y"."z.w"'}, ['{"x-y":{"z.w":"v"}}'], ["v"]),
        ({"a": None}, ['{"a":null}', '{"a":""}'], [None, ""]),
        # Objects are written anew: sorted, compact, HTML's signs escaped.
        ({"a": None}, ['{"a":{"c":[1, "x"], "b":1.50}}', '{"a":[1,2]}'], ['{"b":1.5,"c":[1,"x"]}', "[1,2]"]),
        ({"a": None}, ['{"a":["<&>\\u2028\\n\\"é"]}'], ['["\\u003c\\u0026\\u003e\\u2028\\n\\"é"]']),
        ({"a": None}, ['{"a":{"x":1e30,"y":1e-7,"z":-1e20}}'], ['{"x":1e+30,"y":1e-7,"z":-100000000000000000000}']),
        ({"a": None}, ['{"a":"é\\u0041\\n\\u0000!"}', '{"a":"<\\/>"}'], ["éA\n\0!", "</>"]),
        # Numbers are float64, written in all digits.
        ({"a": None}, ['{"a":1.0}', '{"a":-0.50}', '{"a":1e3}', '{"a":1E-7}'], ["1", "-0.5", "1000", "0.0000001"]),
        ({"a": None}, ['{"a":9007199254740993}', '{"a":123456789012345678901234567890}'],
         ["9007199254740992", "123456789012345680000000000000"]),
        ({"a": None}, ['{"a":"1.0"}', '{"a":true}', '{"a":false}'], ["1.0", "true", "false"]),
        # Malformed, or not.
        ({"a": None}, ['{"a":"x"', '{"a":"x"} trailing', ' {"a" : "x"} ', '{"a":"x",}', '{"a":NaN}'],
         [None, None, "x", None, None]),
        ({"a": None}, ['{"a":"\t"}', '{"a":01}', "{'a':1}", '{"a":"\\x"}', "{}"], [None] * 5),
        ({"a": None}, ['{"a":1,"a":2}', '{"b":{"a":1},"a":"x"}', '{"a":"x","b":"\\"a\\":1"}'], ["2", "x", "x"]),
        ({"a": None}, ['{"a":"\\ud800!"}', '{"a":"\\ud83d\\ude00"}'], ["\ufffd!", "😀"]),
        ({"a": None}, ["[" * 5000, '{"a":' + "[" * 5000], [None, None]),
        ({"a": None}, ['{"\\u0061":"x"}', '{"a\\n":"y"}'], ["x", None]),
        # All of JMESPath.
        ({"a": "b[*].c"}, ['{"b":[{"c":1},{"c":"<"}]}', '{"b":1}'], ['[1,"\\u003c"]', None]),
        ({"a": "b || c"}, ['{"c":"x"}', '{"b":"y","c":"x"}'], ["x", "y"]),
        ({"a": "length(b)"}, ['{"b":"four"}', '{"b":[]}'], ["4", "0"]),
        ({"a": "b[-1]"}, ['{"b":[1,2.5]}'], ["2.5"]),
        ({"a": "b[?n > `1`].n | [0]"}, ['{"b":[{"n":1},{"n":2}]}'], ["2"]),
        ({"a": "{x: b, y: c}"}, ['{"b":1}'], ['{"x":1,"y":null}']),
        ({"a": "@"}, ['{"b" : 1}'], ['{"b":1}']),
        ({"a": "to_number(b)"}, ['{"b":"1.50"}'], ["1.5"]),
        ({"a": "b.'c'"}, [], []),
    ],
)  # fmt: skip
def test_json_takes_out_values(expressions: dict, lines: list[str], expected: list) -> None:
    if not lines:
        with pytest.raises(StageError, match="could not compile JMES"):
            Json(expressions)
        return
    assert extracted(Json(expressions)(made(lines, a=[None] * len(lines))))["a"] == expected
    for line, value in zip(lines, expected, strict=True):
        assert extracted(Json(expressions)(made([line], a=[None])))["a"] == [value]


def test_what_is_not_there_is_taken_away_and_what_is_no_json_changes_nothing() -> None:
    entries = Regex(r"^(?P<level>\w+) (?P<body>.*)")(
        made(['INFO {"level":"debug","x":{"y":1}}', "WARN {}", "ERROR x", "-"], {"job": "j"})
    )
    found = extracted(Json({"level": None, "deep": "x.y", "job": None}, "body")(entries))
    assert found["level"] == ["debug", None, "ERROR", None]
    assert found["deep"] == ["1", None, None, None]
    assert found["job"] == [None, None, "j", "j"]
    assert extracted(Json({"level": "length(`1`)"})(made(["{}"], level="kept"))) == {"level": ["kept"]}


@pytest.mark.parametrize("depth", [900, 1500, 30_000])
@pytest.mark.parametrize("first", ['"x"', '"\\ud800"'])
def test_what_nests_deeper_than_python_follows_harms_no_other_line(depth: int, first: str) -> None:
    deep = ['{"c":' * depth + "1" + "}" * depth, "[" * depth + "]" * depth]
    lines = ['{"a":"b"}', *(f'{{"a":{first},"b":{value}}}' for value in deep), '{"b":[1, 2]}']
    found = extracted(Json({"b": "b", "a": "a"})(made(lines)))
    assert found["b"][::3] == [None, "[1,2]"]
    assert set(found["b"][1:3]) <= {*deep, None}
    assert found["a"][::3] == ["b", None]


def test_malformed_lines_are_dropped_when_asked_for() -> None:
    entries = made(['{"a":1}', "x", "null", "{", '{"b":1}'])
    kept = Json({"a": None}, drop_malformed=True)(entries)
    assert kept.lines.to_pylist() == ['{"a":1}', "null", '{"b":1}']
    assert extracted(kept)["a"] == ["1", None, None]
    assert kept.first_lines.tolist() == [0, 2, 4]
    # Without a source there is nothing to be malformed.
    kept = Json({"a": None}, "s", drop_malformed=True)(made(["1", "2", "3"], s=["x", None, "{}"]))
    assert kept.lines.to_pylist() == ["2", "3"]
    assert len(Json({"a": None}, drop_malformed=True)(made(["x"]))) == 0
    assert len(Json({"a": None}, drop_malformed=True)(made([]))) == 0


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.sampled_from('ab"\\<é\n\u2028 '), max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=100)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), VALUES), max_size=5), st.integers(0, 30))
def test_json_is_what_one_line_after_the_other_gives(values: list[dict], cut: int) -> None:
    lines = [json.dumps(value) for value in values]
    lines += [line[:cut] for line in lines]
    expressions = {"x": "a", "y": "b.c", "z": "a[0]"}
    nothing = {name: [None] * len(lines) for name in expressions}
    found = extracted(Json(expressions)(made(lines, **nothing)))
    for row, line in enumerate(lines):
        try:
            data = orjson.loads(line)
        except ValueError:
            data = None
        if not isinstance(data, dict):
            data = {}
        for name, expression in expressions.items():
            assert found[name][row] == shown(jmespath.search(expression, data))


def shown(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float)):
        return np.format_float_positional(float(value), trim="-")
    again = json.loads(gojson.written(value), parse_int=float)
    assert again == json.loads(json.dumps(value), parse_int=float)
    return gojson.written(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_written_as_go_does(value: float) -> None:
    assert gojson.number(value) == np.format_float_positional(value, trim="-")
    assert float(gojson.written(value)) == value


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=6) | st.none()))
def test_strings_are_quoted_alike_in_columns_and_alone(texts: list[str | None]) -> None:
    quoted = gojson.quoted_column(pa.array(texts, pa.utf8())).to_pylist()
    assert quoted == [None if text is None else gojson.quoted(text) for text in texts]
    assert [None if text is None else json.loads(text) for text in quoted] == texts


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("a.b[0].c", ["a", "b", 0, "c"]), ('"x y"', ["x y"]), (" a ", ["a"]),
        *((text, None) for text in ("a.", ".a", "a b", "a[*]", "a || b", "length(a)", "[0]", "a[-1]", "", '"*"')),
    ],
)  # fmt: skip
def test_which_paths_are_looked_up_in_columns(expression: str, expected: list | None) -> None:
    assert steps(expression) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- json: {}", "the stage json: JMES expression is required"),
        ("- json: {expressions: {a: '['}}", "the stage json: could not compile JMES expression '['"),
        ("- json: {expressions: {'a b': }}", "the stage json: could not compile JMES expression 'a b'"),
        ("- json: {expressions: {a: }, source: ''}", "the stage json: empty source"),
        ("- json: {expressions: {a: }, drop_malformed: x}", "json.drop_malformed is 'x'"),
        ("- json: {expressions: [a]}", "json.expressions is ['a'], not a mapping"),
    ],
)
def test_wrong_settings_are_told(text: str, message: str) -> None:
    problem = built(text)[1][0]
    assert problem[1].startswith(message)


def test_it_is_built_from_yaml() -> None:
    found = stage("- json: {expressions: {a: b.c}, source: s, drop_malformed: true}")
    assert extracted(found(made(["x"], s='{"b":{"c":2}}')))["a"] == ["2"]
    assert found.reads() == {"s"}
