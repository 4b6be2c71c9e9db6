"""Stages that change lines and labels, and unwrap, over one entry."""

from __future__ import annotations

import pytest

from atalaia.logql import rows
from atalaia.logql.entry import Entry as Seen
from atalaia.logql.errors import BadTemplate
from atalaia.logql.parse import parse
from atalaia.logql.tree import RangeAggregation

from .sqlcheck import Entry, labels, log_query

STREAM, METADATA = {"app": "a", "k": "s"}, {"m": "1", "k": "2"}


def after(stages: str, line: str = "x=1 y=2") -> Seen:
    found = rows.pipeline(log_query(f'{{app="a"}} {stages}'))(7, line, STREAM, METADATA)
    assert found is not None
    return found


# Stages, and the labels behind them; without any there are app=a k=s m=1 k_extracted=2.
LABELS = [
    ("| drop m", "app=a k=s k_extracted=2"),
    ("| drop k", "app=a k_extracted=2 m=1"),
    ("| drop k_extracted, nothing", "app=a k=s m=1"),
    ('| drop k="s", m="2"', "app=a k_extracted=2 m=1"),
    ('| drop m=~"[0-9]", app!="a"', "app=a k=s k_extracted=2"),
    ("| keep m", "m=1"),
    ('| keep m, k="x"', "m=1"),
    ('| keep app, k=~"s|t"', "app=a k=s"),
    ("| keep nothing", ""),
    ("| logfmt | drop x", "app=a k=s k_extracted=2 m=1 y=2"),
    ("| logfmt | drop x | logfmt", "app=a k=s k_extracted=2 m=1 x=1 y=2"),
    ("| drop k | logfmt k=`x`", "app=a k_extracted=1 m=1"),  # k was taken when the entry came
    ("| label_format m=k", "app=a k_extracted=2 m=s"),
    ("| label_format z=k, k=m", "app=a k=1 k_extracted=2 z=s"),
    ("| label_format z=nothing", "app=a k=s k_extracted=2 m=1"),
    ("| label_format k=`{{.app}}-{{.m}}`", "app=a k=a-1 k_extracted=2 m=1"),
    ("| label_format a=`1`, b=`[{{.a}}]`", "a=1 app=a b=[] k=s k_extracted=2 m=1"),  # templates see what was before
    ("| label_format a=k, b=`{{.a}}`", "a=s app=a b=s k_extracted=2 m=1"),  # but renamings that come first
    ("| label_format x=`9` | logfmt", "app=a k=s k_extracted=2 m=1 x=9 y=2"),
    ("| label_format k=`{{__line__}}`", "app=a k=x=1 y=2 k_extracted=2 m=1"),
]


@pytest.mark.parametrize(("stages", "expected"), LABELS)
def test_labels(stages: str, expected: str) -> None:
    assert " ".join(f"{name}={value}" for name, value in sorted(after(stages).all().items())) == expected


def test_a_renamed_label_is_a_parsed_one() -> None:
    seen = after("| logfmt | label_format s=k, n=m, p=x")
    assert (dict(seen.stream), seen.metadata, seen.parsed) == (
        {"app": "a"},
        {"k_extracted": "2"},
        {"p": "1", "y": "2", "s": "s", "n": "1"},
    )


def test_a_label_renamed_to_its_own_name_is_gone() -> None:
    assert "app" not in after("| label_format app=app").all()


@pytest.mark.parametrize(
    ("stages", "line", "expected"),
    [
        ("| line_format `{{.app}}: {{__line__}}`", "l", "a: l"),
        ("| line_format `a` | line_format `b{{__line__}}`", "l", "ba"),
        ("| line_format `{{__timestamp__ | unixEpochNanos}}`", "l", "7"),
        ("| line_format `x=5` | logfmt | line_format `{{.x}}`", "l", "5"),
        ("| decolorize", "\x1b[31;1mred\x1b[0m \x1b]0;t\x07plain [1m", "red plain [1m"),
        ("| decolorize", "", ""),
        ("| unpack", '{"_entry":"in","a":"b"}', "in"),
    ],
)
def test_lines(stages: str, line: str, expected: str) -> None:
    assert after(stages, line).line == expected


def test_a_filter_behind_sees_the_new_line() -> None:
    run = rows.pipeline(log_query('{app="a"} | line_format `{{.k}}` |= "s"'))
    assert run(0, "none", STREAM, {}) is not None
    assert run(0, "s", {"k": "x"}, {}) is None


@pytest.mark.parametrize("stages", ["| line_format `{{div 1 .none}}`", "| label_format z=`{{div 1 0}}`"])
def test_a_template_that_fails_marks_the_entry(stages: str) -> None:
    seen = after(stages)
    assert seen.line == "x=1 y=2"
    assert seen.fault["__error__"] == "TemplateFormatErr"
    assert "divide by zero" in seen.fault["__error_details__"]


def test_errors_are_labels_that_can_be_dropped_but_not_kept_out() -> None:
    assert after("| json").all()["__error__"] == "JSONParserErr"
    assert after("| json | keep app").all()["__error__"] == "JSONParserErr"
    assert "__error__" not in after("| json | drop __error__, __error_details__").all()
    assert after('| json | drop __error__="other"').fault["__error__"] == "JSONParserErr"
    assert after("| json | label_format e=`{{.__error__}}`").all()["e"] == "JSONParserErr"
    seen = rows.pipeline(log_query('{app="a"} | json | __error_details__ != ""'))(0, "no", {}, {})
    assert seen is not None
    assert labels('{app="a"} | logfmt', Entry("x=1", {})) == {"x": "1"}


def test_a_bad_template_is_refused_with_the_query() -> None:
    with pytest.raises(BadTemplate, match=r'invalid template "{{nope}}": function "nope" not defined'):
        rows.pipeline(log_query('{app="a"} | line_format "{{nope}}"'))


# What is unwrapped, a line, the sample; None where there is none, a text for an error.
UNWRAPPED = [
    ("x", "x=1.5", 1.5),
    ("x", "x=-1e3", -1000.0),
    ("x", "x=0x1p3", 8.0),
    ("x", "y=1", None),
    ("x", 'x=""', None),
    ("x", "x=1s", 'strconv.ParseFloat: parsing "1s": invalid syntax'),
    ("duration(x)", "x=1m30s", 90.0),
    ("duration_seconds(x)", "x=250ms", 0.25),
    ("duration(x)", "x=5", 'time: missing unit in duration "5"'),
    ("bytes(x)", "x=2KiB", 2048.0),
    ("bytes(x)", "x=1,5kB", 15000.0),
    ("bytes(x)", "x=many", 'strconv.ParseFloat: parsing "": invalid syntax'),
    ("x | x > 1", "x=1", None),
    ("x | y = `2`", "x=1 y=2", 1.0),
    ('x | __error__ = ""', "x=abc", None),
]


@pytest.mark.parametrize(("unwrapped", "line", "expected"), UNWRAPPED)
def test_unwrap(unwrapped: str, line: str, expected: float | str | None) -> None:
    tree = parse(f'sum_over_time({{app="a"}} | logfmt --keep-empty | unwrap {unwrapped} [1m])')
    assert isinstance(tree, RangeAggregation)
    seen = rows.pipeline(tree)(0, line, {}, {})
    if expected is None:
        assert seen is None
    else:
        assert seen is not None
        assert (seen.fault.get("__error_details__") or seen.value) == expected
        assert seen.fault.get("__error__", "SampleExtractionErr") == "SampleExtractionErr"


def test_templates_of_an_entry_without_labels_see_none_that_were_just_made() -> None:
    found = rows.pipeline(log_query('{app="a"} | label_format a=`1`, b=`[{{.a}}]`'))(0, "", {}, {})
    assert found is not None
    assert found.all() == {"a": "1", "b": "[]"}
