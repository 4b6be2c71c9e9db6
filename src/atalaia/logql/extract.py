"""Labels out of one line, as Loki's parsers make them. Runs on the rows that SQL leaves, not on all that are stored."""

from __future__ import annotations

import json
import re
from typing import Any, NoReturn

import orjson

from . import loosejson

ERROR, DETAILS = "__error__", "__error_details__"
PARSER_ERRORS = JSON_ERROR, LOGFMT_ERROR = "JSONParserErr", "LogfmtParserErr"
PRESERVED = "__preserve_error__"
# What Go's strings.TrimSpace takes off.
BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"  # noqa: E501
_MOST_NESTED = 100
_TOO_DEEP = "nested too deep"
_INVALID = re.compile(r"[^A-Za-z0-9_]")


def sanitise(name: str) -> str:
    """A key as a label name: other characters become _, and a leading digit gets one before it."""
    clean = _INVALID.sub("_", name.strip(BLANKS))
    return f"_{clean}" if "0" <= clean[:1] <= "9" else clean


# -- json


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Objects become tuples of pairs, so that the first of equal keys can be kept; numbers keep their spelling.
_decode = json.JSONDecoder(object_pairs_hook=tuple, parse_float=str, parse_int=str, parse_constant=_refuse).decode


def _load(line: str) -> Any:
    """Raises ValueError for what is not JSON."""
    try:
        if "\\u" in line:
            orjson.loads(line)  # refuses escapes that are half a character
        return _decode(line)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def json_labels(line: str) -> dict[str, str]:
    """Nested keys joined with _, arrays and nulls skipped; a line that is no JSON object gets an error label.

    As in Loki, the members before a fault are labels, and what is behind the object is not looked at.
    """
    found: dict[str, str] = {}
    try:
        data = _load(line)
    except ValueError:
        data = None
    try:
        if isinstance(data, tuple):
            _flatten("", data, found)
        else:
            _flatten_loosely("", line, found, 0)
    except loosejson.Fault as fault:
        return {**found, ERROR: JSON_ERROR, DETAILS: str(fault)}
    except RecursionError:  # newer Pythons load what nests deeper than they may call
        return {**found, ERROR: JSON_ERROR, DETAILS: _TOO_DEEP}
    return found


def _flatten(prefix: str, data: tuple[tuple[str, Any], ...], found: dict[str, str]) -> None:
    for key, value in data:
        name = _joined(prefix, key)
        if isinstance(value, tuple):
            _flatten(name, value, found)
        elif isinstance(value, (str, bool)) and name and name not in found:
            found[name] = value if isinstance(value, str) else _word(value)


def _flatten_loosely(prefix: str, text: str, found: dict[str, str], depth: int) -> None:
    if depth > _MOST_NESTED:
        raise loosejson.Fault(_TOO_DEEP)
    for key, value in loosejson.members(text):
        name = _joined(prefix, key)
        if value.startswith("{"):
            _flatten_loosely(name, value, found, depth + 1)
        elif not value.startswith("[") and value != "null" and name:
            found.setdefault(name, _scalar(value))


def _joined(prefix: str, key: str) -> str:
    return f"{prefix}_{_INVALID.sub('_', key.strip(BLANKS))}" if prefix else sanitise(key)


def _scalar(text: str) -> str:
    """A value's text; a string with an escape that is none is empty, as in Loki."""
    return (loosejson.unescaped(text[1:-1]) or "") if text.startswith('"') else text


def _word(value: bool) -> str:
    return "true" if value else "false"


def unpacked(line: str) -> tuple[str, dict[str, str]]:
    """What Promtail's pack stage packed: the line at `_entry` and the labels beside it, texts only.

    A JSON object without `_entry` has no labels; what is not a JSON object gets an error label.
    """
    if not line:
        return line, {}
    if not line.startswith("{"):
        return line, {ERROR: JSON_ERROR, DETAILS: "expecting json object(6), but it is not"}
    found: dict[str, str] = {}
    entry = None
    try:
        for key, value in loosejson.members(line):
            if not value.startswith('"'):
                continue
            if key != "_entry":
                found.setdefault(sanitise(key), _scalar(value))
            elif (entry := loosejson.unescaped(value[1:-1])) is None:
                raise loosejson.Fault(loosejson.NO_ESCAPE)
    except loosejson.Fault as fault:
        return line, {ERROR: JSON_ERROR, DETAILS: str(fault)}
    found.pop("", None)
    return (line, {}) if entry is None else (entry, found)


_STEP = re.compile(r'\s*(?:\.?\s*([A-Za-z_][A-Za-z0-9_]*)|\[\s*(?:"([^"]*)"|([0-9]+))\s*\])')
JSON_BEGINNINGS = ('"', "{", "[")


def json_value(line: str, path: str) -> str | None:
    """What stands at `a.b[0]["c d"]` in a JSON line: scalars as text, objects and arrays as they are written.

    "" when there is nothing. None when the value is broken, or when the line does not begin with a bracket or a quote
    and so, for Loki, is no JSON; of an empty line too.
    """
    if line[:1] not in JSON_BEGINNINGS:
        return None
    at = 0
    for step in _STEP.finditer(path.strip()):
        key, index = step[1] or step[2] or "", step[3]
        found = loosejson.member(line, at, key) if index is None else loosejson.item(line, at, int(index[:10]))
        if found is None:
            return ""
        at = found
    try:
        text, _ = loosejson.value(line, at)
    except loosejson.Fault:
        return None
    return "" if text == "null" else _scalar(text)


def member_path(path: str) -> list[str] | None:
    """The names of a path that goes through objects alone; None for others."""
    steps = list(_STEP.finditer(path.strip()))
    return [m[1] or m[2] or "" for m in steps] if steps and all(m[3] is None for m in steps) else None


# -- logfmt

# A key and what may follow it; blanks are all characters up to the space. An unquoted value may hold = but no quote.
_PAIR = re.compile(r'([^\x00-\x20="]++)(?:=(?:("(?:[^"\\]|\\.)*+")|([^\x00-\x20"]*+)(?!")))?', re.DOTALL)
_BETWEEN = re.compile(r"[\x00-\x20]*")
_WORD = re.compile(r"[^\x00-\x20]+")
_OPEN = re.compile(r'[^\x00-\x20="]+="')
_ESCAPE = re.compile(r"\\(?:(u[0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/", "'": "'"}


def _unescape(text: str) -> str | None:
    """A quoted value; None when it has an escape that is none."""
    if "\\" not in text:
        return text
    if any(match[2] is not None and match[2] not in _ESCAPES for match in _ESCAPE.finditer(text)):
        return None
    plain = _ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if m[1] else _ESCAPES[m[2]], text)
    return plain.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def logfmt_labels(line: str, strict: bool = False, keep_empty: bool = False) -> dict[str, str]:
    """key=value pairs; the first of equal keys stays; keys without a value are left out unless `keep_empty`.

    What is not a pair is passed over up to the next blank, a quote that never ends up to the end of the line;
    with `strict` either ends the parsing with an error label.
    """
    found: dict[str, str] = {}
    at = _BETWEEN.match(line).end()  # type: ignore[union-attr]  # it matches nothing too
    while at < len(line):
        match = _PAIR.match(line, at)
        if match is None:
            value = None
        elif match[2] is not None:
            value = _unescape(match[2][1:-1])
        else:
            # A key that = or a quote follows here has a value that cannot be read.
            value = None if line[match.end() : match.end() + 1] in ("=", '"') else match[3] or ""
        if match is None or value is None:
            if strict:
                return found | {ERROR: LOGFMT_ERROR, DETAILS: _complaint(line, at, match)}
            at = _after_fault(line, at, match)
        else:
            at = match.end()
            name = sanitise(match[1])
            if (value or keep_empty) and name not in found:
                found[name] = value
        at = _BETWEEN.match(line, at).end()  # type: ignore[union-attr]  # as above
    return found


def _complaint(line: str, at: int, match: re.Match[str] | None) -> str:
    """What is wrong with the pair that begins at `at`, in Loki's words; positions count bytes."""
    if match is not None and match[2] is not None:
        at, what = match.end(), "invalid quoted value"
    elif _OPEN.match(line, at):
        at, what = len(line), "unterminated quoted value"
    else:
        if match is not None:
            at = match.end()
            if line[at] == "=":  # a quote stands in the value
                at = line.index('"', at)
        what = f"unexpected '{line[at]}'"
    return f"logfmt syntax error at pos {len(line[:at].encode()) + 1} : {what}"


def _after_fault(line: str, at: int, match: re.Match[str] | None) -> int:
    if match is not None and match[2] is not None:
        return match.end()
    if _OPEN.match(line, at):
        return len(line)
    word = _WORD.match(line, at)
    return word.end() if word else len(line)
