from __future__ import annotations

import hashlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.collector.stage_support import built, extracted, made, stage

from atalaia.collector.stages.captures import marking
from atalaia.collector.stages.replace import Replace


def lines(found: Replace, *texts: str, **values: object) -> list[str]:
    return found(made(texts, **values)).lines.to_pylist()


@pytest.mark.parametrize(
    ("expression", "template", "text", "expected"),
    [
        (r"password (\S+)", "****", "password secret, password x", "password **** password ****"),
        (r"password (\S+)", "", "password secret done", "password  done"),
        (r"(?P<ip>\d+\.\d+)\.\d+\.\d+", "{{ .Value }}.x", "from 10.1.2.3 to 10.9.8.7", "from 10.1.x.2.3 to 10.9.x.8.7"),
        (r"(\w+)=(\w+)", "{{ ToUpper .Value }}", "a=b c=d", "A=B C=D"),
        (r"^(\S+) .*(\d)$", "<{{ .Value }}>", "first and 5", "<first> and <5>"),
        (r"(é+)", "{{ .Value | len }}", "caféé ü é", "caf4 ü 2"),
        (r"x(y)?z", "!", "xz xyz", "xz x!z"),
        # Without a group there is nothing to be replaced.
        (r"secret", "****", "secret", "secret"),
        # A group inside of another, or right behind it, stays: so does Promtail's.
        (r"((a)b)", "!", "ab ab", "! !"),
        (r"(\d)(\d)", "!", "12 34", "!2 !4"),
        (r"(\d)", "!", "12 345", "!2 !4!"),
        # Empty matches do not follow on others.
        (r"(a*)", "<{{ .Value }}>", "baac", "<>b<aa>c<>"),
        (r"(x)", "{{ .Value.nothing }}", "x", "x"),
        (r"(x)", "{{ .absent }}-", "x", "-"),
        (r"(\S+)", '{{ if eq .Value "200" }}{{ Replace .Value "200" "OK" -1 }}{{ else }}{{ .Value }}{{ end }}',
         "200 404 x200", "OK 404 x200"),
        (r"(\d{3})", '{{ Hash "salt" .Value }}', "123", hashlib.sha3_256(b"salt123").hexdigest()),
        (r"(\d{3})", '{{ .Value | Sha2Hash "salt" }}', "123", hashlib.sha256(b"salt123").hexdigest()),
        (r"(?s)(a.b)", "!", "a\nb", "!"),
        (r"no match (x)", "!", "text", "text"),
    ],
)  # fmt: skip
def test_groups_are_replaced_in_the_line(expression: str, template: str, text: str, expected: str) -> None:
    assert lines(Replace(expression, None, template), text) == [expected]
    assert lines(Replace(expression, None, template), text, ";", text)[::2] == [expected] * 2


def test_the_source_is_changed_and_names_are_extracted() -> None:
    found = Replace(r"user=(?P<user>\w+)(?P<no>!)?", "s", "[{{ .Value }}@{{ .host }}]")
    entries = found(made(["line"] * 3, s=["user=ann, user=bob", "none", None], host=["h", "i", "j"], user="old"))
    assert entries.lines.to_pylist() == ["line"] * 3
    assert extracted(entries) == {
        "s": ["user=[ann@h], user=[bob@h]", "none", None],
        "host": ["h", "i", "j"],
        "user": ["[ann@h]", "old", "old"],
        "no": [None, None, None],
    }
    assert found.reads() == {"s", "host", "Value"}


def test_a_fault_of_the_template_leaves_the_text() -> None:
    found = Replace(r"(\w+)", None, "{{ index .Value 5 }}")
    assert lines(found, "long text", "abcdefg") == ["long text", "102"]


def test_of_equal_captured_texts_the_replacement_is_the_same() -> None:
    entries = Replace(r"(?P<a>\w)-(?P<b>\w)?", None, "{{ .Value }}!")(made(["x-x y-"]))
    assert entries.lines.to_pylist() == ["x!-x! y!-"]
    assert extracted(entries) == {"a": ["x!"], "b": ["x!"]}


@given(
    st.lists(st.text(st.sampled_from("aab1 é-\x01"), max_size=10)),
    st.sampled_from(
        [
            r"(a)(b)",
            r"(?P<x>a)-?(b)b*",
            r"(?i)(?:1|A)(b)",
            r"(a)|b",
            r"\((a)[)(](b)",
            r"(a)(b)?",
            r"((a)b)|(1)",
            r"(a*)",
            r" (\w+)",
            r"(?P<x>é)a?",
        ]
    ),
    st.sampled_from(["", "-", "<{{ .Value }}>"]),
)
def test_it_is_what_one_line_after_the_other_gives(texts: list[str], expression: str, template: str) -> None:
    def model(text: str) -> str:
        made, at, last = "", 0, -1
        for match in re.finditer(expression, text):
            if match.start() == match.end() == last:
                continue
            last = match.end()
            for begin, end in match.regs[1:]:
                if begin >= 0 and (at == 0 or at < begin):
                    made += text[at:begin] + template.replace("{{ .Value }}", text[begin:end])
                    at = end
        return made + text[at:]

    # Python's \w knows é, RE2's does not.
    plain = [text.replace("é", "!") if "w" in expression else text for text in texts]
    assert lines(Replace(expression, None, template), *plain) == [model(text) for text in plain]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (r"x (\S+)", r"(x )(\S+)()"),
        (r"(?is)(?P<n>a(?:b|c))[()]\((d)$", r"(?is)()(a(?:b|c))([()]\()(d)($)"),
        (r"\Q(\E(a)", r"(\Q(\E)(a)()"),
        *((text, None) for text in ("a", "((a)b)", "(a)?", "(a){2}", "(a)|b", "(?:(a)|b)", "x(?i)(a)", "(a)" * 5)),
    ],
)
def test_which_expressions_are_replaced_at_once(expression: str, expected: str | None) -> None:
    found = marking(expression)
    assert (found and found[0]) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- replace: {}", "the stage replace: it needs 'expression'"),
        ("- replace: {expression: '('}", "the stage replace: the expression is not RE2"),
        ("- replace: {expression: x, source: ''}", "the stage replace: empty source"),
        (
            "- replace: {expression: (x), replace: '{{ .Value'}",
            "the stage replace: the template cannot be read: unclosed",
        ),
        (
            "- replace: {expression: (x), replace: '{{ genPrivateKey }}'}",
            "the stage replace: the template cannot be read",
        ),
    ],
)
def test_wrong_settings_are_told(text: str, message: str) -> None:
    assert built(text)[1][0][1].startswith(message)


def test_it_is_built_from_yaml() -> None:
    found = stage("- replace: {expression: '(\\d+)', replace: '#'}")
    assert found(made(["a 1"])).lines.to_pylist() == ["a #"]
    empty = stage("- replace: {expression: '(\\d+)', source: s}")
    assert extracted(empty(made(["a"], s="b2c")))["s"] == ["bc"]
