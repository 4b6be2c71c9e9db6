"""The template index against brute force: never a line lost, never one too many."""

from __future__ import annotations

import re

import pyarrow as pa
import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.store.decide import LineCondition, LineTest, Verdict, decide, required_texts
from atalaia.store.templates import PLACEHOLDER, Templates, templates
from atalaia.store.tokens import SHORTEST, hash_of

_VARIABLE = re.compile(r"[A-Za-z0-9]*[0-9][A-Za-z0-9]*")
# Few characters, so that needles meet lines often: token borders, digits, Unicode, newline, NUL, the placeholder.
_TEXT = st.text(st.sampled_from("aBz019 =-_é\n\0\x11"), max_size=14)
_WORDS = st.lists(
    st.sampled_from(["ERROR", "id", "x1", "42", "7f", " ", "=", ": ", "é", "-", "\x11", "ab"]), max_size=8
).map("".join)
_LINE = _TEXT | _WORDS


def texts_of(found: Templates) -> list[str]:
    assert found.codes is not None
    return [found.texts[code] for code in found.codes]


@given(st.lists(_LINE, max_size=20), st.integers(0, 5))
def test_templates_equal_a_regex(lines: list[str], cut: int) -> None:
    array = pa.array(lines, pa.utf8()).slice(min(cut, len(lines)))
    found = templates(array)
    assert texts_of(found) == [_VARIABLE.sub(PLACEHOLDER, line) for line in array.to_pylist()]
    assert found.codes is not None
    for line, code in zip(array.to_pylist(), found.codes, strict=True):
        letters = {c for token in _VARIABLE.findall(line) for c in token if not c.isdigit()}
        assert letters <= found.letters[code]
    long = [
        (row, hash_of(token))
        for row, line in enumerate(array.to_pylist())
        for token in _VARIABLE.findall(line)
        if len(token) >= SHORTEST
    ]
    assert list(zip(found.token_rows.tolist(), found.token_hashes.tolist(), strict=True)) == long


def _parts_of(line: str, draw: st.DataObject) -> str:
    start = draw.draw(st.integers(0, len(line)))
    return line[start : draw.draw(st.integers(start, len(line)))]


def _check(lines: list[str], conditions: tuple[LineCondition, ...], passes: list[bool]) -> None:
    found = templates(pa.array(lines, pa.utf8()))
    assert found.codes is not None
    for code, passed in zip(found.codes, passes, strict=True):
        verdict = decide(found.texts[code], found.letters[code], conditions)
        assert verdict is Verdict.SOME or (verdict is Verdict.ALL) == passed


@settings(max_examples=600, deadline=None)
@given(st.lists(_LINE, min_size=1, max_size=12), st.data())
def test_texts_are_decided_as_brute_force_does(lines: list[str], data: st.DataObject) -> None:
    needles = [data.draw(_LINE) for _ in range(2)]
    needles.append(_parts_of(data.draw(st.sampled_from(lines)), data))
    for needle in needles:
        for negated in (False, True):
            condition = LineCondition("", (LineTest(needle),), negated)
            _check(lines, (condition,), [(needle in line) != negated for line in lines])
    both = tuple(LineCondition("", (LineTest(needle),)) for needle in needles)
    _check(lines, both, [all(needle in line for needle in needles) for line in lines])
    either = LineCondition("", tuple(LineTest(needle) for needle in needles))
    _check(lines, (either,), [any(needle in line for needle in needles) for line in lines])


_REGEX = st.lists(
    st.sampled_from(
        [
            "a",
            "B",
            "1",
            " ",
            "=",
            "é",
            r"\.",
            r"\d",
            ".",
            "a*",
            "1+",
            "(a|B)",
            "(?:x1)?",
            "[0-9]+",
            "[^a]",
            "^",
            "$",
            "id=",
            "ERROR",
            "z{2}",
            "|",
            "(?i)",
            r"\w",
            "\\-",
        ]
    ),
    max_size=5,
).map("".join)


@settings(max_examples=600, deadline=None)
@given(st.lists(_LINE, min_size=1, max_size=12), _REGEX)
def test_regexes_are_decided_as_re2_does(lines: list[str], regex: str) -> None:
    try:
        compiled = re2.compile(regex)
    except re2.error:
        return
    condition = LineCondition("", (LineTest(regex, regex=True),))
    _check(lines, (condition,), [compiled.search(line) is not None for line in lines])


@pytest.mark.parametrize(
    ("needle", "template", "letters", "verdict"),
    [
        ("invalid length of startup packet", "LOG:  invalid length of startup packet", "", Verdict.ALL),
        ("invalid length of startup packet", "LOG:  duration: \x11.\x11 ms", "", Verdict.NONE),
        ("id = 9245039 AND", "WHERE id = \x11 AND x", "", Verdict.SOME),
        ("id = 9245039 AND", "WHERE id = \x11 OR x", "", Verdict.NONE),
        ("245039 AND", "WHERE id = \x11 AND x", "", Verdict.SOME),
        ("ERROR", "LOG: \x11", "", Verdict.NONE),
        ("ERROR", "LOG: \x11", "EROR", Verdict.SOME),
        ("7f", "LOG: \x11", "", Verdict.NONE),
        ("7f", "LOG: \x11", "f", Verdict.SOME),
        ("", "anything", "", Verdict.ALL),
    ],
)
def test_what_templates_tell(needle: str, template: str, letters: str, verdict: Verdict) -> None:
    assert decide(template, frozenset(letters), (LineCondition("", (LineTest(needle),)),)) is verdict


@pytest.mark.parametrize(
    ("regex", "texts"),
    [
        (r"duration: [0-9]{3,}\.", ("duration: ", ".")),
        ("a|b", ()),
        ("(?i)abc", ()),
        ("abc*d", ("ab", "d")),
        ("abc+d", ("abc", "cd")),
        (r"user=(\w+) db", ("user=", " db")),
        (r"\Qa.b\E", ()),
    ],
)
def test_what_a_regex_needs(regex: str, texts: tuple[str, ...]) -> None:
    assert required_texts(regex) == texts
