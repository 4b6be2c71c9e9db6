"""JSON objects that have a fault, read as Loki reads them: members up to the fault count, what is behind them does not.

A value goes from its first character to the next comma, bracket or blank, and is looked at no closer. The messages are
those that Loki puts into `__error_details__` (the Go package jsonparser).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

NO_OBJECT = "Value looks like object, but can't find closing '}' symbol"
_NO_ARRAY = "Value looks like array, but can't find closing ']' symbol"
_NO_JSON = "Malformed JSON error"
_NO_STRING = "Value looks like string, but can't find closing '\"' symbol"
_NO_KIND = "Unknown value type"
NO_ESCAPE = "Encountered an invalid escape sequence in a string"

_BLANKS = re.compile(r"[ \t\r\n]*")
_STRING = re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL)
_TOKEN = re.compile(r"[^ \t\r\n,}\]]*")
_BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+("?)|[{}\[\]]', re.DOTALL)
_ESCAPE = re.compile(
    r'\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u(?![dD][89a-fA-F])[0-9a-fA-F]{4}|["\\/bfnrt])'
)


class Fault(ValueError):
    """What is wrong, in Loki's words."""


def members(text: str) -> Iterator[tuple[str, str]]:
    """Keys, and values as they are written. Raises Fault where no more can be read."""
    for key, at in _keys(text, 0):
        yield key, value(text, at)[0]


def member(text: str, at: int, key: str) -> int | None:
    """Where the value of a key begins in the object that begins at `at`; None where none is found."""
    try:
        return next((start for name, start in _keys(text, at) if name == key), None)
    except Fault:
        return None


def item(text: str, at: int, index: int) -> int | None:
    """Where an item begins in the array that begins at `at`; None where none is found."""
    at = _blanks(text, at)
    if text[at : at + 1] != "[":
        return None
    try:
        at = _needed(text, at + 1, _NO_ARRAY)
        while text[at] != "]":
            if index == 0:
                return at
            index -= 1
            at = _next(text, value(text, at)[1], "]", _NO_ARRAY)
    except Fault:
        pass
    return None


def _keys(text: str, at: int) -> Iterator[tuple[str, int]]:
    """Keys, and where their values begin."""
    at = _blanks(text, at)
    if text[at : at + 1] != "{":
        raise Fault(NO_OBJECT)
    at = _needed(text, at + 1, _NO_JSON)
    while text[at] != "}":
        if text[at] != '"':
            raise Fault(NO_OBJECT)
        string = _STRING.match(text, at + 1)
        if string is None:
            raise Fault(_NO_JSON)
        key = unescaped(string[0][:-1])
        if key is None:
            raise Fault(NO_ESCAPE)
        at = _needed(text, string.end(), _NO_JSON)
        if text[at] != ":":
            raise Fault(_NO_JSON)
        yield key, at + 1
        at = _next(text, value(text, at + 1)[1], "}", NO_OBJECT)


def _next(text: str, at: int, closing: str, fault: str) -> int:
    """Where the next member or item begins, or the bracket that closes them all stands."""
    at = _needed(text, at, _NO_ARRAY)
    if text[at] == ",":
        return _needed(text, at + 1, _NO_ARRAY)
    if text[at] != closing:
        raise Fault(fault)
    return at


def unescaped(text: str) -> str | None:
    """What is between the quotes of a string; None where an escape is none."""
    if "\\" not in text:
        return text
    if "\\" in _ESCAPE.sub("", text):
        return None
    return str(json.loads(f'"{text}"', strict=False))


def value(text: str, at: int) -> tuple[str, int]:
    """The value that begins at `at`, as it is written, and where it ends. Raises Fault."""
    at = _needed(text, at, _NO_JSON)
    if text[at] == '"':
        string = _STRING.match(text, at + 1)
        if string is None:
            raise Fault(_NO_STRING)
        return text[at : string.end()], string.end()
    if text[at] in "{[":
        end = _end(text, at)
        return text[at:end], end
    word = _TOKEN.match(text, at)[0]  # type: ignore[index]  # it matches nothing too
    if word not in ("true", "false", "null") and (not word or word[0] not in "-0123456789"):
        raise Fault(_NO_KIND)
    return word, at + len(word)


def _end(text: str, at: int) -> int:
    opening, closing = ("{", "}") if text[at] == "{" else ("[", "]")
    fault = NO_OBJECT if opening == "{" else _NO_ARRAY
    depth = 0
    for part in _BRACKETS.finditer(text, at):
        if part[0].startswith('"') and not part[1]:
            raise Fault(fault)
        depth += (part[0] == opening) - (part[0] == closing)
        if depth == 0:
            return part.end()
    raise Fault(fault)


def _blanks(text: str, at: int) -> int:
    return _BLANKS.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing too


def _needed(text: str, at: int, fault: str) -> int:
    at = _blanks(text, at)
    if at == len(text):
        raise Fault(fault)
    return at
