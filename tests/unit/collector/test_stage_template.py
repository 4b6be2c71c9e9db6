from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.collector.stage_support import built, extracted, made, stage

from atalaia.collector.stages.stage import StageError
from atalaia.collector.stages.template import Template
from atalaia.logql.template import sprig
from atalaia.logql.template.data import LabelMap
from atalaia.logql.template.parse import TemplateError, parse
from atalaia.logql.template.reads import functions, names
from atalaia.logql.template.run import run
from atalaia.logql.template.straight import straight


def of(template: str, source: str = "s", **values: object) -> str | None:
    (found,) = extracted(Template(source, template)(made(["the line"], **values)))[source]
    return found


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("plain", "plain"),
        ("{{ .Value }}", "Some Text "),
        ("{{ .s }}{{ .n }}", "Some Text 5"),
        ("{{ ToLower .Value }}", "some text "),
        ("{{ .Value | ToUpper | TrimSpace }}", "SOME TEXT"),
        ('{{ Replace .Value "e" "E" 1 }}', "SomE Text "),
        ('{{ Trim .Value " tS" }}', "ome Tex"),
        ('{{ TrimLeft .Value "S" }}|{{ TrimRight .Value " t" }}', "ome Text |Some Tex"),
        ('{{ TrimPrefix .Value "Some" }}|{{ TrimSuffix .Value "xt " }}', " Text |Some Te"),
        ('{{ regexReplaceAll "(S)ome" .Value "${1}om" }}', "Som Text "),
        ('{{ regexReplaceAllLiteral "(S)ome" .Value "${1}" }}', "${1} Text "),
        ('{{ Hash "x" .n }}', hashlib.sha3_256(b"x5").hexdigest()),
        ('{{ .n | Sha2Hash "x" }}', hashlib.sha256(b"x5").hexdigest()),
        ("{{ .Entry }}", "the line"),
        ("{{ .absent }}", "<no value>"),
        ('{{ if .absent }}a{{ else if eq .n "5" }}b{{ end }}', "b"),
        ('{{ .absent | default "-" }}', "-"),
        # Nothing written takes the value away; a fault leaves it.
        ("{{ if .absent }}x{{ end }}", None),
        ("", None),
        ("{{ ToLower .absent }}", "Some Text "),
        ("{{ .n | int | add 1 }}", "6"),
        ("{{ range $k, $v := . }}{{ $k }};{{ end }}", "Entry;Value;job;n;s;"),
        ("{{ len .job }}", "1"),
        ('{{ template "t" .n }}{{ define "t" }}<{{ . }}>{{ end }}', "<5>"),
        # sprig's
        ('{{ splitList "," "a,b" | join "-" }}{{ (split "," "a,b")._1 }}', "a-bb"),
        ('{{ list 3 1 2 | toStrings | sortAlpha | first }}{{ list 1 1 2 | uniq | len }}', "12"),
        ('{{ dict "a" .n | toJson }}', '{"a":"5"}'),
        ('{{ regexMatch "^[0-9]$" .n }} {{ regexFind "[a-z]+" .Value }}', "true ome"),
        ('{{ regexSplit "," "a,b,c" 2 | join "|" }} {{ regexFindAll "[a-z]" "a1b2" -1 | join "" }}', "a|b,c ab"),
        ("{{ snakecase .Value }} {{ kebabcase .Value }} {{ camelcase .Value }}", "some_text some-text SomeText"),
        ('{{ ternary "y" "n" (eq .n "5") }}{{ coalesce .absent "" .n }}{{ empty .absent }}', "y5true"),
        ('{{ quote "a\\"b" }}{{ squote "c" }}{{ cat "a" "b" }}', '"a\\"b"\'c\'a b'),
        ('{{ "abc" | sha256sum | trunc 8 }} {{ b64enc "x" | b64dec }} {{ "x" | b32enc }}', "ba7816bf x PA======"),
        ('{{ abbrev 7 "something long" }} {{ nospace "a b" }} {{ initials "Ann Bob" }}', "some... ab AB"),
        ('{{ base "/a/b.txt" }} {{ ext "/a/b.txt" }} {{ dir "/a/b.txt" }}', "b.txt .txt /a"),
        ('{{ until 3 }} {{ seq 2 }} {{ untilStep 0 6 2 }}', "[0 1 2] 1 2 [0 2 4]"),
        ('{{ with dict "a" 1 "b" 2 }}{{ get . "b" }}{{ hasKey . "c" }}{{ keys . | len }}{{ end }}', "2false2"),
    ],
)  # fmt: skip
def test_what_templates_write(template: str, expected: str | None) -> None:
    assert of(template, s="Some Text ", n="5", job="j") == expected


def test_a_value_that_is_not_there_is_made() -> None:
    assert of("hello", source="new") == "hello"
    assert of("{{ .Value }}", source="new") == "<no value>"


def test_each_row_has_its_own() -> None:
    stage = Template("s", "{{ .a }}-{{ ToLower .Value }}")
    entries = stage(made(["x"] * 4, a=["1", "2", None, "1"], s=["X", "X", "Y", None]))
    assert extracted(entries)["s"] == ["1-x", "2-x", "<no value>-y", None]
    plain = Template("s", "{{ .a }}-{{ .Value }}")(made(["x"] * 4, a=["1", "", None, "1"], s=["X", "X", "Y", None]))
    assert extracted(plain)["s"] == ["1-X", "-X", "<no value>-Y", "1-<no value>"]
    assert extracted(Template("s", "{{ .a }}")(made(["x"] * 2, a=["", "1"], s="old")))["s"] == [None, "1"]


def test_what_changes_each_time_is_made_for_each_row() -> None:
    found = extracted(Template("s", "{{ uuidv4 }}")(made(["x"] * 5)))["s"]
    assert len(set(found)) == 5


TEXT = st.text(st.sampled_from("aB é"), max_size=3) | st.none()


@given(
    st.lists(st.tuples(TEXT, TEXT, TEXT), max_size=8),
    st.sampled_from(
        [
            "{{ .a }}{{ .b }}",
            "{{ .Value }}{{ ToUpper .a }}",
            "{{ if .a }}{{ .a }}{{ else }}{{ .Value }}{{ end }}",
            "{{ range $k, $v := . }}{{ $v }}{{ end }}",
        ]
    ),
)
def test_it_is_what_one_row_after_the_other_gives(rows: list, template: str) -> None:
    columns = {name: [row[at] for row in rows] for at, name in enumerate("abs")}
    found = extracted(Template("s", template)(made(["line"] * len(rows), **columns)))["s"]
    tree = parse(template, sprig.FUNCTIONS)
    for row, result in zip(rows, found, strict=True):
        data = {name: value for name, value in zip("abs", row, strict=True) if value is not None}
        data["Entry"] = "line"
        if row[2] is not None:
            data["Value"] = row[2]
        try:
            expected = run(tree, data, sprig.FUNCTIONS) or None
        except ValueError:
            expected = row[2]
        assert result == expected


@pytest.mark.parametrize("data", [{"a": "x Y", "n": "2"}, LabelMap({"a": "x Y"}), {}, LabelMap()], ids=repr)
@pytest.mark.parametrize(
    ("template", "is_straight"),
    [
        ("text {{ .a }} {{ .none }}{{ 5 }}{{ nil }}", True),
        ("{{ .a | ToUpper | printf `%s-%d` .n 1 }}", True),
        ("{{ trunc (int .n) .a }}{{ ToLower .none }}", True),
        ("{{ add 1 .n }}{{ list .a .none }}{{ now | kindOf }}", True),
        ("{{ fail .a }}", True),
        ("{{ int .a | div 1 }}", True),
        ("{{ index .a 9 }}", True),
        ("{{ repeat 2000000 .a }}{{ repeat 2000000 `x` }}", True),
        ("{{ or .a .n }}", False),
        ("{{ if .a }}x{{ end }}", False),
        ("{{ $x := .a }}{{ $x }}", False),
        ("{{ .a.b }}", False),
        ("{{ . }}", False),
        ("{{ .a | 5 }}", False),
        ("{{ .a .n }}", False),
    ],
)
def test_a_straight_template_is_the_same_as_its_tree(template: str, is_straight: bool, data: dict) -> None:
    tree = parse(template, sprig.FUNCTIONS)
    function = straight(tree, sprig.FUNCTIONS)
    assert (function is not None) == is_straight
    if function is None:
        return

    def outcome(write: Callable[[], str]) -> str:
        try:
            return write()
        except TemplateError as error:
            return f"fault: {error}"

    assert outcome(lambda: function(data)) == outcome(lambda: run(tree, data, sprig.FUNCTIONS))


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("text", set()),
        ("{{ .a }}{{ if .b }}{{ $.c }}{{ end }}", {"a", "b", "c"}),
        ("{{ with .a }}{{ . }}{{ .inner }}{{ end }}", {"a", "inner"}),
        ("{{ ToLower (printf `%s` .a) | len }}", {"a"}),
        ("{{ range . }}{{ end }}", None),
        ("{{ index . `a` }}", None),
        ("{{ $x := . }}", None),
        ("{{ template `t` . }}{{ define `t` }}{{ .a }}{{ end }}", None),
        ("{{ template `t` .b }}{{ define `t` }}{{ . }}{{ end }}", {"b"}),
        ("{{ range .l }}{{ toJson $ }}{{ end }}", None),
        ("{{ .a.b }}", {"a"}),
    ],
)
def test_which_names_a_template_reads(template: str, expected: set | None) -> None:
    assert names(parse(template, sprig.FUNCTIONS)) == expected


def test_which_functions_a_template_calls() -> None:
    tree = parse("{{ if eq .a (len `x`) }}{{ range list 1 }}{{ now | date `06` }}{{ end }}{{ end }}", sprig.FUNCTIONS)
    assert functions(tree) == {"eq", "len", "list", "now", "date"}
    stage = Template("s", "{{ .a }}{{ .Value }}{{ .Entry }}")
    assert stage.reads() == {"a", "s", "Value"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- template: {template: x}", "the stage template: it needs 'source'"),
        ("- template: {source: a, template: '{{ if }}'}", "the stage template: the template cannot be read"),
        ("- template: {source: a, template: '{{ nosuch .x }}'}",
         'the stage template: the template cannot be read: function "nosuch" not defined'),
        ("- template: {source: a, templates: x}", "template: 'templates' is not known"),
    ],
)  # fmt: skip
def test_wrong_settings_are_told(text: str, message: str) -> None:
    assert built(text)[1][0][1].startswith(message)
    with pytest.raises(StageError):
        Template("a", "{{")


def test_it_is_built_from_yaml() -> None:
    found = stage("- template: {source: level, template: '{{ ToLower .Value }}'}")
    assert extracted(found(made(["x"], level=["WARN"])))["level"] == ["warn"]
