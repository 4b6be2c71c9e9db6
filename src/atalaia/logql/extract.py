"""Labels out of one line, as Loki's parsers make them. Runs on the rows that SQL leaves, not on all that are stored."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any, NoReturn

import orjson

ERROR, DETAILS = "__error__", "__error_details__"
JSON_ERROR, LOGFMT_ERROR = "JSONParserErr", "LogfmtParserErr"
# What Go's strings.TrimSpace takes off.
BLANKS = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"  # noqa: E501
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
_decode_texts = json.JSONDecoder(object_pairs_hook=tuple, parse_int=float, parse_constant=_refuse).decode


def _load(line: str, decode: Callable[[str], Any] = _decode) -> Any:
    """Raises ValueError for what is not JSON."""
    try:
        if "\\u" in line:
            orjson.loads(line)  # refuses escapes that are half a character
        return decode(line)
    except RecursionError:
        raise ValueError("nested too deep") from None


def json_labels(line: str) -> dict[str, str]:
    """Nested keys joined with _, arrays and nulls skipped; a line that is not a JSON object gets an error label."""
    try:
        data = _load(line)
    except ValueError as error:
        return {ERROR: JSON_ERROR, DETAILS: str(error)}
    if not isinstance(data, tuple):
        return {ERROR: JSON_ERROR, DETAILS: "the line is not a JSON object"}
    found: dict[str, str] = {}
    _flatten(None, data, found)
    return found


def _flatten(prefix: str | None, data: tuple[tuple[str, Any], ...], found: dict[str, str]) -> None:
    for key, value in data:
        name = sanitise(key if prefix is None else f"{prefix}_{key}")
        if isinstance(value, tuple):
            _flatten(name, value, found)
        elif isinstance(value, (str, bool)) and name and name not in found:
            found[name] = value if isinstance(value, str) else _word(value)


def _word(value: bool) -> str:
    return "true" if value else "false"


def unpacked(line: str) -> tuple[str, dict[str, str]]:
    """What Promtail's pack stage packed: the line at `_entry` and the labels beside it, texts only.

    A JSON object without `_entry` has no labels; what is not a JSON object gets an error label.
    """
    try:
        data = _load(line, _decode_texts)
    except ValueError as error:
        return line, {ERROR: JSON_ERROR, DETAILS: str(error)}
    if not isinstance(data, tuple):
        return line, {ERROR: JSON_ERROR, DETAILS: "the line is not a JSON object"}
    found: dict[str, str] = {}
    for key, value in data:
        name = key if key == "_entry" else sanitise(key)
        if isinstance(value, str) and name:
            found.setdefault(name, value)
    return (found.pop("_entry"), found) if "_entry" in found else (line, {})


_STEP = re.compile(r'\s*(?:\.?\s*([A-Za-z_][A-Za-z0-9_]*)|\[\s*(?:"([^"]*)"|([0-9]+))\s*\])')
_SPACE = re.compile(r"[ \t\n\r]*")
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s"{}\[\],:]+', re.DOTALL)


def json_value(line: str, path: str) -> str | None:
    """What stands at `a.b[0]["c d"]` in a JSON line: scalars as text, objects and arrays as they are written.

    "" when there is nothing, None when the line is not JSON.
    """
    try:
        _load(line)
    except ValueError:
        return None
    at: int | None = _skip(line, 0)
    for match in _STEP.finditer(path.strip()):
        at = _member(line, at, match[1] or match[2] or "") if match[3] is None else _item(line, at, int(match[3]))
        if at is None:
            return ""
    text = line[at : _end(line, at or 0)]
    if text.startswith('"'):
        return str(json.loads(text))
    return "" if text == "null" else text


def member_path(path: str) -> list[str] | None:
    """The names of a path that goes through objects alone; None for others."""
    steps = list(_STEP.finditer(path.strip()))
    return [m[1] or m[2] or "" for m in steps] if steps and all(m[3] is None for m in steps) else None


def _skip(text: str, at: int) -> int:
    """Past blanks and the comma or colon that may stand there."""
    at = _SPACE.match(text, at).end()  # type: ignore[union-attr]  # it matches nothing too
    return _skip(text, at + 1) if text[at : at + 1] in (",", ":") else at


def _end(text: str, at: int) -> int:
    """Where the value that begins at `at` ends."""
    depth = 0
    for token in _TOKEN.finditer(text, at):
        depth += (token[0] in "{[") - (token[0] in "}]")
        if depth == 0:
            return token.end()
    return len(text)


def _member(text: str, at: int | None, key: str) -> int | None:
    if at is None or text[at : at + 1] != "{":
        return None
    at = _skip(text, at + 1)
    while text[at : at + 1] == '"':
        end = _end(text, at)
        name = json.loads(text[at:end])
        at = _skip(text, end)
        if name == key:
            return at
        at = _skip(text, _end(text, at))
    return None


def _item(text: str, at: int | None, index: int) -> int | None:
    if at is None or text[at : at + 1] != "[":
        return None
    at = _skip(text, at + 1)
    while text[at : at + 1] != "]":
        if index == 0:
            return at
        index -= 1
        at = _skip(text, _end(text, at))
    return None


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
                return found | {ERROR: LOGFMT_ERROR, DETAILS: f"logfmt syntax error at pos {at + 1}"}
            at = _after_fault(line, at, match)
        else:
            at = match.end()
            name = sanitise(match[1])
            if (value or keep_empty) and name not in found:
                found[name] = value
        at = _BETWEEN.match(line, at).end()  # type: ignore[union-attr]  # as above
    return found


def _after_fault(line: str, at: int, match: re.Match[str] | None) -> int:
    if match is not None and match[2] is not None:
        return match.end()
    if _OPEN.match(line, at):
        return len(line)
    word = _WORD.match(line, at)
    return word.end() if word else len(line)
