"""Labels out of one line, as Loki's parsers make them. Runs on the rows that SQL leaves, not on all that are stored."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

ERROR, DETAILS = "__error__", "__error_details__"
_INVALID = re.compile(r"[^A-Za-z0-9_]")
_LOGFMT = re.compile(r'\s*([^\s="]+)(?:=(?:"((?:[^"\\]|\\.)*)"(?=\s|$)|([^\s"]*)(?=\s|$)))?(?=\s|$)')
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)")
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "v": "\v", "a": "\a"}


def sanitise(name: str) -> str:
    """A key as a label name: other characters become _, and a leading digit gets one before it."""
    clean = _INVALID.sub("_", name.strip())
    return f"_{clean}" if clean[:1].isdigit() else clean


def _scalar(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return ""
    if isinstance(value, (int, float)):
        return orjson.dumps(value).decode()
    return None


def json_labels(line: str) -> dict[str, str]:
    """Nested keys joined with _, arrays skipped; a line that is not a JSON object gets an error label."""
    try:
        data = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return {ERROR: "JSONParserErr", DETAILS: str(error)}
    if not isinstance(data, dict):
        return {ERROR: "JSONParserErr", DETAILS: "the line is not a JSON object"}
    found: dict[str, str] = {}
    _flatten("", data, found)
    return found


def _flatten(prefix: str, data: Mapping[str, Any], found: dict[str, str]) -> None:
    for key, value in data.items():
        name = sanitise(f"{prefix}_{key}" if prefix else key)
        if isinstance(value, dict):
            _flatten(name, value, found)
        elif not isinstance(value, list) and name not in found:
            text = _scalar(value)
            if text is not None:
                found[name] = text


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        body = match[1]
        return chr(int(body[1:], 16)) if body[0] == "u" and len(body) == 5 else _ESCAPES.get(body, body)

    return _ESCAPE.sub(one, text) if "\\" in text else text


def logfmt_labels(line: str, strict: bool = False, keep_empty: bool = False) -> dict[str, str]:
    """key=value pairs; the first of equal keys stays; keys without a value are left out unless `keep_empty`.

    What is not a pair is passed over, or with `strict` ends the parsing with an error label.
    """
    found: dict[str, str] = {}
    at = 0
    while at < len(line):
        match = _LOGFMT.match(line, at)
        if match is None:
            if not line[at:].strip():
                break
            if strict:
                return found | {ERROR: "LogfmtParserErr", DETAILS: f"logfmt syntax error at pos {at + 1}"}
            skipped = re.compile(r"\s*\S+").match(line, at)
            at = skipped.end() if skipped else len(line)
            continue
        at = match.end()
        value = _unescape(match[2]) if match[2] is not None else match[3] or ""
        name = sanitise(match[1])
        if (value or keep_empty) and name not in found:
            found[name] = value
    return found


_STEP = re.compile(r'\.?([^.\[\]"]+)|\["((?:[^"\\]|\\.)*)"\]|\[(\d+)\]')


def json_value(line: str, path: str) -> str:
    """What stands at `a.b[0]["c d"]` in a JSON line: scalars as text, objects and arrays as JSON, "" for nothing."""
    try:
        value = orjson.loads(line)
    except orjson.JSONDecodeError:
        return ""
    for match in _STEP.finditer(path):
        if match[3] is not None:
            index = int(match[3])
            value = value[index] if isinstance(value, list) and index < len(value) else None
        else:
            key = match[1] if match[1] is not None else _unescape(match[2])
            value = value.get(key) if isinstance(value, dict) else None
        if value is None:
            return ""
    text = _scalar(value)
    return text if text is not None else orjson.dumps(value).decode()
