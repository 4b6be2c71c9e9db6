"""Actions, pipelines, variables, control: Go's documentation of text/template, checked by hand."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql.errors import BadTemplate
from atalaia.logql.template.parse import TemplateError

from .support import made

CASES = [
    ("", ""),
    ("plain } } {", "plain } } {"),
    ("{{.level}}", "error"),
    ("{{ .level }}/{{.n}}", "error/5"),
    ("[{{.missing}}]", "[]"),
    ("{{$.level}}", "error"),
    ("{{__line__}}", "the line"),
    ("{{/* nothing */}}x{{- /* more */ -}} y", "xy"),
    ("a {{- .n -}} b", "a5b"),
    ("a {{ .n -}}\n b", "a 5b"),
    ("a{{-5}}", "a-5"),  # no blank: a number
    ('{{"x\\n\\u00e9"}}{{`y\\n`}}', "x\néy\\n"),
    ("{{'a'}} {{0x10}} {{010}} {{1_000}} {{1.50}} {{1e6}} {{1e21}} {{true}}", "97 16 8 1000 1.5 1e+06 1e+21 true"),
    ("{{nil | printf `%v`}}", "<nil>"),
    # ---- pipelines
    ("{{.level | upper}}", "ERROR"),
    ("{{.level | upper | printf `%s-%s` `x`}}", "x-ERROR"),
    ("{{upper .level}}", "ERROR"),
    ("{{upper (lower .level)}}", "ERROR"),
    ("{{(fromJson .js).t}}", "true"),
    ("{{ .level|upper|lower }}", "error"),
    # ---- variables
    ("{{$x := .n}}{{$x}}{{$x = `6`}}{{$x}}", "56"),
    ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", "2"),
    ("{{$x := 1}}{{if true}}{{$x := 2}}{{$x}}{{end}}{{$x}}", "21"),
    ("{{$x := fromJson .js}}{{$x.a.b}}", "[1 2.5 x]"),
    # ---- if, with
    ("{{if .level}}y{{else}}n{{end}}", "y"),
    ("{{if .empty}}y{{else}}n{{end}}", "n"),
    ("{{if .missing}}y{{end}}", ""),
    ("{{if 0}}a{{else if 0.0}}b{{else if nil}}c{{else}}d{{end}}", "d"),
    ("{{if eq .n `5`}}five{{else if eq .n `6`}}six{{end}}", "five"),
    ("{{with .n}}{{.}}{{$.level}}{{end}}", "5error"),
    ("{{with .empty}}y{{else}}n{{.n}}{{end}}", "n5"),
    ("{{with $v := .n}}{{$v}}{{end}}", "5"),
    ("{{if and .level .n}}{{or .empty .missing `z`}}{{end}}{{not .empty}}", "ztrue"),
    ("{{and .empty (index .level 99)}}{{or .n (index .level 99)}}", "5"),  # what decides comes first
    # ---- range
    ("{{range (fromJson .js).a.b}}<{{.}}>{{end}}", "<1><2.5><x>"),
    ("{{range $i, $v := (fromJson .js).a.b}}{{$i}}={{$v}};{{end}}", "0=1;1=2.5;2=x;"),
    ('{{range $k, $v := fromJson `{"b":1,"a":2}`}}{{$k}}{{$v}}{{end}}', "a2b1"),
    ("{{range fromJson `[]`}}x{{else}}none{{end}}", "none"),
    ("{{range (fromJson .js).a.b}}{{if eq (printf `%v` .) `2.5`}}{{break}}{{end}}{{.}}{{end}}", "1"),
    ("{{range (fromJson .js).a.b}}{{if eq (printf `%v` .) `2.5`}}{{continue}}{{end}}{{.}}{{end}}", "1x"),
    ("{{range 3}}{{.}}{{end}}", "012"),
    ("{{range $i := 2}}{{$i}}{{end}}", "01"),
    ("{{range .missing | default nil}}x{{end}}", ""),
    # ---- templates in templates
    ("{{define `t`}}<{{.}}>{{end}}{{template `t` .n}}{{template `t` .level}}", "<5><error>"),
    ("{{template `t`}}{{define `t`}}x{{end}}", "x"),
    ("{{block `t` .n}}[{{.}}]{{end}}", "[5]"),
]


@pytest.mark.parametrize(("template", "expected"), CASES)
def test_templates(template: str, expected: str) -> None:
    assert made(template) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{", "unclosed action"),
        ("{{.a", "unclosed action"),
        ('{{"a}}', "unclosed action"),
        ("{{nope}}", 'function "nope" not defined'),
        ("{{.a | nope}}", 'function "nope" not defined'),
        ("{{if .a}}", "{{end}} is missing"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{if .a}}{{else}}{{else}}{{end}}", "unexpected {{else}}"),
        ("{{if}}{{end}}", "missing value for command"),
        ("{{}}", "missing value for command"),
        ("{{.a |}}", "missing value for command"),
        ("{{(.a}}", "unclosed left paren"),
        ("{{.a)}}", "unexpected ')'"),
        ("{{$x}}", "undefined variable '$x'"),
        ("{{if true}}{{$x := 1}}{{end}}{{$x}}", "undefined variable '$x'"),
        ("{{break}}", "outside {{range}}"),
        ("{{.a.}}", "unexpected '.'"),
        ("{{.a!}}", "unexpected '!'"),
        ("{{1.2.3}}", "unexpected"),
        ("{{'ab'}}", "malformed character constant"),
        ("{{define t}}{{end}}", "the name of a template is a string"),
        ("{{" + "(" * 200 + "1" + ")" * 200 + "}}", "nests more than 100 deep"),
        ("{{if 1}}" * 200 + "{{end}}" * 200, "nests more than 100 deep"),
    ],
)
def test_what_is_no_template(template: str, message: str) -> None:
    with pytest.raises(BadTemplate) as caught:
        made(template)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.n.x}}", "can't evaluate field x"),
        ("{{.n 1}}", "can't give argument to non-function"),
        ("{{1 | .n}}", "can't give argument to non-function"),
        ("{{upper}}", "wrong arguments for upper"),
        ("{{upper 1}}", "expected string"),
        ("{{lt .n 1}}", "incompatible types for comparison"),
        ("{{range .n}}{{end}}", "can't iterate"),
        ("{{template `t`}}", 'template "t" not defined'),
        ("{{define `t`}}{{template `t`}}{{end}}{{template `t`}}", "exceeded maximum template depth"),
        ("{{div 1 0}}", "divide by zero"),
        ("{{index .n 9}}", "index out of range"),
        ("{{repeat 2000000 .n}}", "more than 1048576 characters"),
        ("{{range 200000}}x{{end}}", "takes too long"),
        ("{{$x := repeat 1000000 `x`}}{{$x}}{{$x}}", "writes more than"),
        ("{{count `(` .n}}", "error parsing regexp"),
    ],
)
def test_what_fails_over_an_entry(template: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        made(template)
    assert message in str(caught.value)


PIECES = st.sampled_from(
    ["{{", "}}", "{{-", "-}}", ".n", " ", "|", "(", ")", "$x", ":=", "=", "if ", "range ", "end", "else", "upper", '"']
)
MORE = st.sampled_from(
    [
        "`",
        "'",
        "1",
        ".",
        ",",
        "define ",
        "/*",
        "*/",
        "\\",
        "with ",
        "fromJson .js",
        " index ",
        " slice ",
        " -1",
        "printf %d",
    ]
)


@given(st.lists(PIECES | MORE, max_size=14).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_text_is_run_or_refused(template: str) -> None:
    with contextlib.suppress(BadTemplate, TemplateError):
        assert isinstance(made(template), str)
