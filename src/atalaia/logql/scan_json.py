"""A JSON label as SQL: RE2 finds it in lines with plain keys that are not nested deep; the function reads the others.

As for logfmt, a regular expression without groups finds all up to the end of the value, and another one, at the end of
that, the value. The line's being JSON is another expression's concern: the first one only knows where values end.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from .extract import ERROR, JSON_ERROR, member_path
from .patterns import quoted
from .spelling import BLANKS, longest_part, regular
from .sqltext import let, literal

_W = r"[ \t\r\n]*"
_UNDERSCORES = 3  # in a name; each doubles the ways in which objects may be nested in it
_DEPTH = 5  # of what is passed over
_STRICT_DEPTH = 1  # of what is known to be JSON without DuckDB's help
_EDGE = rf'[^\x00-\x20"\\{BLANKS}]'
_KEY = rf'"{_EDGE}(?:[^\x00-\x1f"\\]*{_EDGE})?"'
_OTHER = r'[^A-Za-z0-9\x00-\x1f"\\]'
_OTHER_EDGE = rf'[^A-Za-z0-9\x00-\x20"\\{BLANKS}]'
_BLANK = rf"[\x20{BLANKS}]"
_INSIDE = r'(?:[^"\\]|\\[\x00-\x{10FFFF}])'
_WEIRD = rf'"(?:{_BLANK}{_INSIDE}*|{_INSIDE}*\\[\x00-\x{{10FFFF}}]{_INSIDE}*|{_INSIDE}*{_BLANK})?"{_W}:'
_TEXT = f'"{_INSIDE}*"'
_SCALAR = rf"(?:{_TEXT}|-?[0-9][0-9.eE+-]*|true|false)"
_PLAIN_KEY = re.compile(
    r'[^\x00-\x20"\\\x7f-\U0010ffff](?:[^\x00-\x1f"\\\x7f-\U0010ffff]*[^\x00-\x20"\\\x7f-\U0010ffff])?'
)
_EMPTY = "''"
_LAST = literal(rf"(?:{_TEXT}|[0-9A-Za-z.+-]+)\z")


def _nest() -> str:
    inner = ""
    for _ in range(_DEPTH):
        inner = rf'[\[{{](?:[^"{{}}\[\]]|{_TEXT}{"|" + inner if inner else ""})*[\]}}]'
    return inner


_MEMBER = rf'{_KEY}{_W}:{_W}(?:{_TEXT}|[^"{{}}\[\],\s]+|{_nest()}){_W}'
_BEFORE = rf"(?:{_MEMBER},{_W})*?"
_OBJECT = rf"^{_W}\{{{_W}"
_FLAT = literal(rf"{_OBJECT}(?:{_MEMBER}(?:,{_W}{_MEMBER})*)?\}}{_W}\z")


def _strict() -> str:
    """Objects that are JSON beyond doubt."""
    pair = r"[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    unicode = rf"(?:[0-9a-ce-fA-CE-F][0-9a-fA-F]|[dD][0-7])[0-9a-fA-F]{{2}}|{pair}"
    text = rf'"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u(?:{unicode})))*"'
    number = r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?"
    value = rf"(?:{text}|{number}|true|false|null)"
    for depth in range(_STRICT_DEPTH + 1):
        member = rf"{text}{_W}:{_W}{value}{_W}"
        nested = rf"\{{{_W}(?:{member}(?:,{_W}{member})*)?\}}"
        if depth == _STRICT_DEPTH:
            break
        value = rf"(?:{value}|{nested}|\[{_W}(?:{value}{_W}(?:,{_W}{value}{_W})*)?\])"
    return rf"^{_W}{nested}{_W}\z"


# DuckDB reads a little more as JSON than there is: a comma before a closing bracket, NaN, Infinity.
_LENIENT = literal(r",\s*[}\]]|[:\[,]\s*[-+]?(?i:nan|inf|infinity)\s*[,}\]]")
IS_OBJECT = (
    f"CASE WHEN regexp_matches(line, {literal(_strict())}) THEN true WHEN NOT json_valid(line) THEN false"
    f" ELSE json_type(line) = 'OBJECT' AND NOT regexp_matches(line, {_LENIENT}) END"
)
"""SQL of whether the column `line` is a JSON object: true of no other, and false of few."""
IS_JSON = "is_json_object(line)"
"""A macro of that."""
HAS_VALUES = f"(prefix(line, '{{') AND {IS_JSON})"
"""Where expressions are sure to meet no fault; Loki looks at the very first character."""
# Of what is no JSON, an object's beginning may still hold labels.
_OPENS = literal(r"^[ \t\r\n]*\{")
_CONTAINER = literal(r'^["\[{]')


def _candidates(name: str) -> str:
    """An expression of what gives a label: a member of that name, or one of an object whose name is its beginning.

    An object that has a key of which nobody knows what it becomes is found up to its colon.
    """
    found = [rf'"{_spelled(name)}"{_W}:{_W}{_SCALAR}']
    for at, char in enumerate(name):
        if char == "_" and at > 0:
            inner = rf"(?:{_candidates(name[at + 1 :])}|{_WEIRD})"
            found.append(rf'"{_spelled(name[:at])}"{_W}:{_W}\{{{_W}{_BEFORE}{inner}')
    return found[0] if len(found) == 1 else f"(?:{'|'.join(found)})"


def _spelled(name: str) -> str:
    """See spelling.py; a blank at an edge is none of the characters that become _."""
    inner = name[1:-1].replace("_", _OTHER)
    edges = [char.replace("_", _OTHER_EDGE) for char in (name[0], name[-1])]
    return edges[0] if len(name) == 1 else edges[0] + inner + edges[1]


def json_label(name: str) -> str:
    """SQL of a label of the column `line`, NULL for none, where IS_JSON is known of the line."""
    slowly = f"line_json(line)[{literal(name)}]"
    if not regular(name) or name.endswith("_") or name.count("_") > _UNDERSCORES:
        return slowly
    found = _scanned(_candidates(name), "NULL", slowly)
    return f"CASE WHEN contains(line, {literal(longest_part(name))}) OR contains(line, '\\u') THEN {found} END"


def unusual_label(name: str) -> str:
    """The same for any line."""
    return f"CASE WHEN regexp_matches(line, {_OPENS}) THEN line_json(line)[{literal(name)}] END"


def _scanned(candidates: str, missing: str, slowly: str) -> str:
    """SQL of what candidates find in a JSON object; `missing` is that of nothing and of null."""
    text = "CASE WHEN contains(t, '\\') THEN json_extract_string(t, '$') ELSE split_part(t, '\"', 2) END"
    value = f"CASE WHEN t = '' THEN NULL WHEN prefix(t, '\"') THEN {text} WHEN t = 'null' THEN {missing} ELSE t END"
    upto = literal(_OBJECT + _BEFORE + candidates)
    found = let("t", f"regexp_extract(regexp_extract(line, {upto}, 0), {_LAST}, 0)", value)
    none = f"NOT regexp_matches(line, {upto}) AND regexp_matches(line, {_FLAT})"
    return f"COALESCE({found}, CASE WHEN {none} THEN {missing} ELSE {slowly} END)"


def json_value(path: str) -> str:
    """SQL of what stands at a path like a.b, "" for nothing, where HAS_VALUES is known of the line."""
    slowly = unusual_value(path)
    keys = member_path(path)
    if keys is None or not all(map(_PLAIN_KEY.fullmatch, keys)):
        return slowly
    found = rf"(?:{_W}(?:{_SCALAR}|null))?"
    for at, key in enumerate(reversed(keys)):
        # What has the key, but not what is looked for, is found up to the colon.
        found = rf'"{quoted(key)}"{_W}:' + (found if at == 0 else rf"(?:{_W}\{{{_W}{_BEFORE}{found})?")
    return _scanned(found, _EMPTY, slowly)


def unusual_value(path: str) -> str:
    """The same for any line; NULL where it does not begin like JSON."""
    return f"COALESCE(line_json_at(line, {literal(path)}), CASE WHEN regexp_matches(line, {_CONTAINER}) THEN '' END)"


def unusual_error() -> str:
    """SQL of the error of any line; NULL for none."""
    slowly = f"line_json(line)[{literal(ERROR)}]"
    return f"CASE WHEN regexp_matches(line, {_OPENS}) THEN {slowly} ELSE {literal(JSON_ERROR)} END"


def unusual_values_error(paths: Iterable[str]) -> str:
    """The same of expressions: some value is broken, or the line does not begin like JSON and is not empty."""
    broken = " OR ".join(f"line_json_at(line, {literal(path)}) IS NULL" for path in paths)
    return f"CASE WHEN line <> '' AND ({broken}) THEN {literal(JSON_ERROR)} END"
