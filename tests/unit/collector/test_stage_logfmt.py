from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.collector.stage_support import built, extracted, made, stage

from atalaia.collector.stages.logfmt import Logfmt, pairs

CASES = [
    ("a=1 b=2", {"a": "1", "b": "2"}),
    ("  a=1\tb=2 ", {"a": "1", "b": "2"}),
    ("a=1 a=2", {"a": "2"}),  # the last of equal keys
    ("a b", {"a": "", "b": ""}),
    ('a= b=""', {"a": "", "b": ""}),
    ('a="x y" b="="', {"a": "x y", "b": "="}),
    ('a="x"b=2', {"a": "x", "b": "2"}),
    ('a="say \\"hi\\"" b=1', {"a": 'say "hi"', "b": "1"}),
    ('a="\\t\\n\\u00e9\\\\\\/" b=1', {"a": "\t\né\\/", "b": "1"}),
    ('a="it\\\'s" b=1', {"a": "it's", "b": "1"}),
    ('a="\\ud83d\\ude00\\ud83d" b=1', {"a": "😀\ufffd", "b": "1"}),
    ("a=C:\\x b=\\\\", {"a": "C:\\x", "b": "\\\\"}),
    ("a='x y' b=1", {"a": "'x", "b": "1"}),
    ("café=1 a=é", {"a": "é"}),
    ("aa=1 xa=2 b=3", {"b": "3"}),
    # What is before a fault counts, what is behind it does not.
    ("a=1 b=x=y", {"a": "1"}),
    ('a=1 b=x"y', {"a": "1"}),
    ('a=1 "b"=2', {"a": "1"}),
    ("a=1 =x b=2", {"a": "1"}),
    ('a=1 b="open a=2', {"a": "1"}),
    ('a=1 c="\\x" b=2', {"a": "1"}),
    ('a=1 c="\\"', {"a": "1"}),
    ('a=1 c="x\\" b=2', {"a": "1"}),
    ('a=1 c=x\\"y b=2', {"a": "1"}),
    ('a=1 c\\"=2 b=2', {"a": "1"}),
    ('a=1 c="\t\\n" b=2', {"a": "1"}),
    ("a=1 \ufffd=x b=2", {"a": "1"}),
    ("a=\ufffd b=2", {"a": "\ufffd", "b": "2"}),
    ('a=1 c=""" b=2', {"a": "1"}),
    ("connection received: a=1 user=x a=3", {"a": "3"}),
    # Each line of an entry is a record; a value does not go across them.
    ("a=1\nb=2", {"a": "1", "b": "2"}),
    ('a="x\ny" b=2', {}),
    ("", {}),
    ("===", {}),
]


@pytest.mark.parametrize(("line", "expected"), CASES)
def test_pairs_are_read_as_go_logfmt_does(line: str, expected: dict) -> None:
    found = {key: value for key, value in pairs(line) if key in "ab"}
    assert found == expected
    there = extracted(Logfmt({"a": None, "b": ""})(made([line])))
    assert {name: values[0] for name, values in there.items() if values[0] is not None} == expected


def test_all_of_them_at_once() -> None:
    found = extracted(Logfmt({"a": None, "b": None})(made([line for line, _ in CASES])))
    assert found["a"] == [expected.get("a") for _, expected in CASES]
    assert found["b"] == [expected.get("b") for _, expected in CASES]


PIECE = st.sampled_from(
    ["a", "b", "=", '"', "\\", " ", "x", "é", "\n", "\\n", '\\"', 'a="', '" ', "a=", "\x01", "\ufffd"]
)


@settings(max_examples=300)
@given(st.lists(st.lists(PIECE, max_size=14).map("".join) | st.none(), max_size=5))
@example(["a", None, "a=1"])
def test_columns_are_read_as_single_lines(lines: list[str | None]) -> None:
    stage = Logfmt({"a": None, "é": None, "n": "ab"}, "s")
    found = extracted(stage(made(["x"] * len(lines), s=lines)))
    for name, key in (("a", "a"), ("é", "é"), ("n", "ab")):
        expected = [None if line is None else dict(pairs(line)).get(key) for line in lines]
        assert found.get(name, [None] * len(lines)) == expected


def test_missing_keys_keep_what_was_there() -> None:
    stage = Logfmt({"level": None, "name": "msg"}, "s")
    entries = stage(made(["1", "2", "3"], level="old", s=["level=new", "msg=m", None]))
    assert extracted(entries)["level"] == ["new", "old", "old"]
    assert extracted(entries)["name"] == [None, "m", None]


def test_two_names_for_one_key() -> None:
    assert extracted(Logfmt({"x": "a", "y": "a"})(made(["a=1"]))) == {"x": ["1"], "y": ["1"]}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- logfmt: {}", "the stage logfmt: logfmt mapping is required"),
        ("- logfmt: {mapping: {a: }, source: ''}", "the stage logfmt: empty source"),
        ("- logfmt: {expression: x}", "logfmt: 'expression' is not known"),
    ],
)
def test_wrong_settings_are_told(text: str, message: str) -> None:
    assert built(text)[1][0][1].startswith(message)


def test_it_is_built_from_yaml() -> None:
    found = stage("- logfmt: {mapping: {level: , name: msg}, source: line}")
    assert extracted(found(made(["x"], line="level=a msg=b"))) == {
        "line": ["level=a msg=b"],
        "level": ["a"],
        "name": ["b"],
    }
    assert found.reads() == {"line"}
