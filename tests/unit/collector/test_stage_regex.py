from __future__ import annotations

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.collector.stage_support import built, extracted, made

from atalaia.collector.stages.json import Json
from atalaia.collector.stages.labels import Labels
from atalaia.collector.stages.logfmt import Logfmt
from atalaia.collector.stages.narrow import narrowed
from atalaia.collector.stages.regex import Regex
from atalaia.collector.stages.stage import StageError
from atalaia.collector.stages.timestamp import Timestamp


@pytest.mark.parametrize(
    ("expression", "lines", "expected"),
    [
        (r"(?P<a>\d+)", ["x 12 y 34", "none"], {"a": ["12", None]}),
        (r"^(?P<a>\w+) (?P<b>\w+)$", ["one two", "one two three"], {"a": ["one", None], "b": ["two", None]}),
        (r"(x|y)(?P<a>\d)(z)?", ["y1", "x2z"], {"a": ["1", "2"]}),
        (r"(?P<a>x)?(?P<b>y)", ["y"], {"a": [""], "b": ["y"]}),
        (r"\((?P<a>[^()]*)\)", ["f(arg)"], {"a": ["arg"]}),
        (r"[(](?P<a>[]()]+)", ["(])("], {"a": ["])("]}),
        (r"[^](](?P<a>\w)", ["(a", "xb"], {"a": [None, "b"]}),
        (r"\Q(\E(?P<a>\w)", ["(a", "b"], {"a": ["a", None]}),
        (r"(?:no)(?P<a>.)", ["no!"], {"a": ["!"]}),
        (r"(?i)(?P<a>ERROR)", ["an Error"], {"a": ["Error"]}),
        (r"(?<a>\d)", ["5"], {"a": ["5"]}),
        (r"((?P<a>b)c)", ["bc"], {"a": ["b"]}),
        (r"(?P<a>é+)", ["caféé", "\0é"], {"a": ["éé", "é"]}),
        (r"(?P<level>[[:upper:]]+)(?P<rest>.*)", ["xINFO y"], {"level": ["INFO"], "rest": [" y"]}),
    ],
)
def test_regex_takes_out_named_groups(expression: str, lines: list[str], expected: dict) -> None:
    assert extracted(Regex(expression)(made(lines))) == expected


@pytest.mark.parametrize("expression", ["(?P<a>", "(?P<a>x)(?P<a>y)", "(?=x)(?P<a>y)", r"(?P<a>x)\1"])
def test_what_is_no_re2_is_refused(expression: str) -> None:
    with pytest.raises(StageError, match=r"not RE2|two groups"):
        Regex(expression)


def test_a_line_that_does_not_match_keeps_what_was_extracted() -> None:
    entries = Regex(r"^a(?P<x>\d)")(made(["a1", "b2", "c3"]))
    assert extracted(Regex(r"^b(?P<x>\d)")(entries)) == {"x": ["1", "2", None]}


def test_regex_reads_its_source() -> None:
    entries = Regex(r"(?P<word>\w+)")(made(["ab cd", "-"]))
    assert extracted(Regex(r"^(?P<first>.)", "word")(entries)) == {"word": ["ab", None], "first": ["a", None]}
    assert extracted(Regex(r"(?P<x>.)", "missing")(entries))["x"] == [None, None]


@given(st.lists(st.text(st.sampled_from("ab1 é\0"), max_size=8), max_size=6))
def test_regex_is_re2(lines: list[str]) -> None:
    expression = r"(?P<x>a+)(\d)?|(?P<y>b)"
    found = extracted(Regex(expression)(made(lines)))
    matches = [re2.search(expression, line) for line in lines]
    assert found["x"] == [None if m is None else m["x"] or "" for m in matches]
    assert found["y"] == [None if m is None else m["y"] or "" for m in matches]


def test_a_narrowed_pipeline_does_the_same() -> None:
    stages = [
        Regex(r"^(?P<time>\S+) (?P<level>\w+) (?P<user>\w+) (?P<rest>.*)"),
        Regex(r"(?P<code>\d+)(?P<unused>x)?", "rest"),
        Timestamp("time", "RFC3339"),
        Labels({"level": None, "who": "user", "code": None}),
    ]
    lines = ["2024-01-01T00:00:00Z INFO ann code 5x", "nonsense", "2024-01-01T00:00:01Z WARN bob none"]
    whole = narrow = made(lines, {"job": "j"})
    for stage in stages:
        whole = stage(whole)
    stages[2] = Timestamp("time", "RFC3339")
    for stage in narrowed(stages):
        narrow = stage(narrow)
    assert narrow.record_batch().equals(whole.record_batch())
    assert narrowed([Regex("(?<level>x)"), Labels({"level": None})])[0](made(["x"])).source("level").to_pylist() == [
        "x"
    ]


def test_without_names_nothing_is_extracted() -> None:
    assert extracted(Regex(r"(\d)+")(made(["5"]))) == {}


def test_a_json_or_logfmt_stage_is_narrowed_too() -> None:
    json, logfmt, labels = narrowed(
        [Json({"a": None, "b": "c.d"}), Logfmt({"x": None, "y": "z"}), Labels({"b": None, "y": None})]
    )
    assert extracted(json(made(['{"a":1,"c":{"d":2}}']))) == {"b": ["2"]}
    assert extracted(logfmt(made(["x=1 z=2"]))) == {"y": ["2"]}
    assert labels.reads() == {"b", "y"}
    unread = narrowed([Json({"a": None}), Json({"a": None}, drop_malformed=True)])
    assert extracted(unread[0](made(['{"a":1}']))) == {}
    assert len(unread[1](made(["no json", "{}"]))) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- regex: {}", "the stage regex: it needs 'expression'"),
        ("- regex: {expression: '('}", "the stage regex: the expression is not RE2"),
        ("- regex: {expression: 'x', source: ''}", "the stage regex: empty source"),
        ("- regex: {expression: 'x', more: 1}", "regex: 'more' is not known"),
    ],
)
def test_wrong_settings_are_told(text: str, message: str) -> None:
    (problem,) = built("# a comment\n" + text)[1]
    assert problem[0] == 2
    assert problem[1].startswith(message)
