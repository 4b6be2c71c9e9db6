"""What a template tells of a filter on lines: all its lines pass, none does, or they must be read. Always exact."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from atalaia.store.templates import PLACEHOLDER

_PIECE = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9]+")
_DIGIT = re.compile(r"[0-9]")


class Verdict(Enum):
    """Of the lines of one template: all pass, none passes, some may."""

    ALL = "all"
    NONE = "none"
    SOME = "some"


@dataclass(frozen=True, slots=True)
class LineTest:
    """A text that a line holds, or with `regex` an RE2 expression that it matches somewhere."""

    text: str
    regex: bool = False


@dataclass(frozen=True, slots=True)
class LineCondition:
    """Any of `tests` holds, or with `negated` none does; `sql` says it exactly of a column `line`.

    Where a test cannot say what `sql` does, it is something that every line has for which `sql` holds.
    """

    sql: str
    tests: tuple[LineTest, ...]
    negated: bool = False


def decide(template: str, letters: frozenset[str], conditions: tuple[LineCondition, ...]) -> Verdict:
    """Whether lines of `template`, whose variable tokens hold only these letters (and digits), pass all conditions."""
    verdicts = [_condition(template, letters, condition) for condition in conditions]
    if Verdict.NONE in verdicts:
        return Verdict.NONE
    return Verdict.ALL if all(v is Verdict.ALL for v in verdicts) else Verdict.SOME


def _condition(template: str, letters: frozenset[str], condition: LineCondition) -> Verdict:
    verdicts = [_test(template, letters, test) for test in condition.tests]
    passes, fails = (Verdict.NONE, Verdict.ALL) if condition.negated else (Verdict.ALL, Verdict.NONE)
    if Verdict.ALL in verdicts:
        return passes
    return fails if all(v is Verdict.NONE for v in verdicts) else Verdict.SOME


def _test(template: str, letters: frozenset[str], test: LineTest) -> Verdict:
    if not test.regex:
        return _holds(template, letters, test.text)
    if not _METACHARACTER.search(test.text):
        return _holds(template, letters, test.text)
    needed = required_texts(test.text)
    impossible = any(_holds(template, letters, text) is Verdict.NONE for text in needed)
    return Verdict.NONE if impossible else Verdict.SOME


def _holds(template: str, letters: frozenset[str], needle: str) -> Verdict:
    """Whether the lines of a template hold a text.

    What stands in the template outside of placeholders stands in every line. Otherwise the text could only stand
    where it touches a variable token: whole tokens of the text that have a digit are one, whole tokens that have
    none are not, and a token at either end of the text may be a part of one.
    """
    if needle in template and PLACEHOLDER not in needle:
        return Verdict.ALL
    if PLACEHOLDER in needle:
        return Verdict.SOME
    shape = _shape(needle)
    if not shape.whole_letters <= letters:
        return Verdict.NONE
    pattern = shape.patterns[shape.first_letters <= letters, shape.last_letters <= letters]
    return Verdict.SOME if pattern is not None and pattern.search(template) else Verdict.NONE


@dataclass(frozen=True, slots=True)
class _Shape:
    """A needle as it looks in templates, by whether its first and its last token may be parts of a variable one."""

    whole_letters: frozenset[str]
    first_letters: frozenset[str]
    last_letters: frozenset[str]
    patterns: Mapping[tuple[bool, bool], re.Pattern[str] | None]


@lru_cache(maxsize=256)
def _shape(needle: str) -> _Shape:
    pieces = _PIECE.findall(needle)
    is_token = [piece[0].isascii() and piece[0].isalnum() for piece in pieces]
    last = len(pieces) - 1
    whole = frozenset(
        letter
        for number, piece in enumerate(pieces)
        if is_token[number] and _DIGIT.search(piece)
        for letter in piece
        if not letter.isdigit()
    )
    ends = [frozenset(c for c in pieces[i] if not c.isdigit()) if is_token[i] else frozenset() for i in (0, last)]
    patterns = {
        (first, final): _pattern(pieces, is_token, first, final) for first in (False, True) for final in (False, True)
    }
    return _Shape(whole, ends[0], ends[1], patterns)


def _pattern(pieces: list[str], is_token: list[bool], first: bool, final: bool) -> re.Pattern[str] | None:
    """`first`, `final`: whether that token's letters occur in variable tokens at all."""
    last = len(pieces) - 1
    text = ""
    for number, piece in enumerate(pieces):
        plain, variable = re.escape(piece), re.escape(PLACEHOLDER)
        if not is_token[number]:
            text += plain
        elif _DIGIT.search(piece):
            text += variable
        elif (number == 0 and first) or (number == last and final):
            text += f"(?:{plain}|{variable})"
        else:
            text += plain
    return re.compile(text)


_METACHARACTER = re.compile(r"[\\^$.|?*+()\[\]{}]")
_QUANTIFIER = re.compile(r"[*?]\??|\{\d*,?\d*\}\??")


def required_texts(regex: str) -> tuple[str, ...]:
    """Texts that every match of an RE2 expression holds; none when that cannot be told simply.

    Only what stands outside of groups and classes counts; a flag or an alternative at the top ends the search.
    """
    found: list[str] = []
    run = ""
    at = 0
    while at < len(regex):
        character = regex[at]
        if character == "|" or (regex.startswith("(?", at) and not regex.startswith(("(?:", "(?P<"), at)):
            return ()
        literal = ""
        if character == "\\":
            following = regex[at + 1 : at + 2]
            at += 2
            if following and not following.isalnum() and following.isascii():
                literal = following
            elif following not in ("d", "D", "s", "S", "w", "W", "b", "B", "A", "z"):
                return ()
        elif character in "[(":
            end = _closing(regex, at)
            if end is None:
                return ()
            at = end
        else:
            at += 1
            if character not in ".^$":
                literal = character
        quantifier = _QUANTIFIER.match(regex, at)
        if quantifier or regex[at : at + 1] == "+":
            # What is repeated ends the text before it; it is itself there at least once behind a plus alone.
            repeated = quantifier is None
            at = quantifier.end() if quantifier else at + 1 + (regex[at + 1 : at + 2] == "?")
            found += [run + literal if repeated else run, ""]
            run = literal if repeated else ""
        elif literal:
            run += literal
        else:
            found.append(run)
            run = ""
    return tuple(text for text in dict.fromkeys([*found, run]) if text)


def _closing(regex: str, at: int) -> int | None:
    """Behind the class or group that begins at `at`; None when it holds what this does not follow."""
    if regex[at] == "[":
        match = re.compile(r"\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]", re.DOTALL).match(regex, at)
        return match.end() if match else None
    depth = 0
    while at < len(regex):
        character = regex[at]
        if character == "\\":
            if regex[at + 1 : at + 2] == "Q":
                return None
            at += 2
            continue
        if character == "[":
            end = _closing(regex, at)
            if end is None:
                return None
            at = end
            continue
        depth += (character == "(") - (character == ")")
        at += 1
        if depth == 0:
            return at
    return None
