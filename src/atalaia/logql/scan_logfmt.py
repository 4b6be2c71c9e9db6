"""A logfmt label as SQL: RE2 finds it in lines without faults, in which keys are plain; the function reads the others.

A regular expression of all that stands before the value, and no groups, so that RE2's automaton alone runs. What is
found ends with the value; a second expression, at the end, takes the last pair of that.
"""

from __future__ import annotations

from .extract import ERROR, LOGFMT_ERROR
from .spelling import BLANKS, longest_part, regular, spelled
from .sqltext import let, literal

_B = r"[\x00-\x20]"
_KEY = rf'[^\x00-\x20="{BLANKS}]+'
_OTHER = rf'[^A-Za-z0-9\x00-\x20="{BLANKS}]'
_BARE = r'[^\x00-\x20"]'
_INSIDE = r'(?:[^"\\]|\\[\x00-\x{10FFFF}])'
_READABLE = r"""(?:[^"\\]|\\(?:[ntrbf"\\/']|u[0-9a-fA-F]{4}))"""
_UNTIL_BLANK = literal(r"^[^\x00-\x20]+")
_LAST_PAIR = literal(rf'[^\x00-\x20"]+(?:"{_INSIDE}*"|{_B}?)\z')


def _pairs(inside: str) -> str:
    """One pair after another; in quotes there is `inside`."""
    return rf'(?:{_KEY}(?:=(?:"{inside}*"{_B}*|{_BARE}+(?:{_B}+|\z)|{_B}+|\z)|{_B}+|\z))*'


def _all(pairs: str) -> str:
    return literal(rf"^{_B}*{pairs}\z")


def logfmt_label(name: str, strict: bool, keep_empty: bool) -> str:
    """SQL of a label of the column `line`; NULL for none."""
    slowly = f"line_logfmt(line, {strict}, {keep_empty})[{literal(name)}]"
    if not regular(name):
        return slowly
    pairs = _pairs(_READABLE if strict else _INSIDE)
    key = spelled(name, _OTHER)
    if keep_empty:
        pair = rf'{key}(?:=(?:"{_INSIDE}*"|{_BARE}*(?:{_B}|\z))|{_B}|\z)'
    else:
        pair = rf'{key}=(?:"{_INSIDE}+"|{_BARE}+(?:{_B}|\z))'
    upto = literal(f"^{_B}*{pairs}?{pair}")
    quoted = "WHEN suffix(t, '\"') THEN CASE WHEN NOT contains(t, '\\') THEN split_part(t, '\"', 2) END"
    bare = f"regexp_extract(substr(t, {len(name) + 2}), {_UNTIL_BLANK}, 0)"
    value = f"CASE WHEN t = '' THEN NULL {quoted} ELSE {bare} END"
    found = let("t", f"regexp_extract(regexp_extract(line, {upto}, 0), {_LAST_PAIR}, 0)", value)
    missing = f"NOT regexp_matches(line, {upto}) AND regexp_matches(line, {_all(pairs)})"
    found = f"COALESCE({found}, CASE WHEN {missing} THEN NULL ELSE {slowly} END)"
    part = longest_part(name)
    return f"CASE WHEN contains(line, {literal(part)}) THEN {found} END" if part else found


def logfmt_error(keep_empty: bool) -> str:
    """SQL of the error that --strict gives a line; NULL for none."""
    slowly = f"line_logfmt(line, true, {keep_empty})[{literal(ERROR)}]"
    return (
        f"CASE WHEN regexp_matches(line, {_all(_pairs(_READABLE))}) THEN NULL"
        f" WHEN {slowly} IS NOT NULL THEN {literal(LOGFMT_ERROR)} END"
    )
