"""Label values as numbers, durations and sizes, read as Loki reads them: Go's ParseFloat, ParseDuration, and humanize.

A reader gives None for what it cannot read; Loki keeps such an entry and marks it with `__error__="LabelFilterErr"`.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable

from .tree import Bytes, Duration, Number

_DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_SPECIAL = re.compile(r"[+-]?inf(inity)?|nan", re.IGNORECASE)
_HEXADECIMAL = re.compile(r"[+-]?0x([0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)p[+-]?[0-9]+", re.IGNORECASE)

_NS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_DURATION_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|[smh])")

_SIZE = re.compile(r"([0-9.,]*[0-9][0-9.,]*)\s*([a-zA-Z]*)\s*")
_UNITS = {"": 1, "b": 1}
_UNITS |= {f"{p}{b}": 1000 ** (i + 1) for i, p in enumerate("kmgtpe") for b in ("", "b")}
_UNITS |= {f"{p}i{b}": 1024 ** (i + 1) for i, p in enumerate("kmgtpe") for b in ("", "b")}


def number(text: str) -> float | None:
    """A float as Go's strconv.ParseFloat reads it; None also for what a float cannot hold."""
    if _DECIMAL.fullmatch(text):
        found = float(text)
        return None if math.isinf(found) else found
    if _SPECIAL.fullmatch(text):
        return float(text)
    if _HEXADECIMAL.fullmatch(text):
        try:
            return float.fromhex(text)
        except OverflowError:
            return None
    return None


def duration(text: str) -> int | None:
    """Nanoseconds as Go's time.ParseDuration reads them: no days or weeks, and a unit unless it is 0."""
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0
    total, at = 0, 0
    while at < len(body):
        part = _DURATION_PART.match(body, at)
        if part is None or not (part[1] or part[2]):
            return None
        unit, fraction = _NS[part[3]], (part[2] or "")[:20]
        total += int(part[1][:25] or "0") * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
        at = part.end()
    limit = 2**63 if text.startswith("-") else 2**63 - 1
    if not body or total > limit:
        return None
    return -total if text.startswith("-") else total


def size(text: str) -> int | None:
    """Bytes as humanize.ParseBytes reads them: `1,5 kB` is 15 kB, units in any case, K is 1000 and Ki 1024."""
    match = _SIZE.fullmatch(text)
    digits = match[1].replace(",", "") if match else ""
    if match is None or match[2].lower() not in _UNITS or digits.count(".") > 1 or not digits.strip("."):
        return None
    found = float(digits) * _UNITS[match[2].lower()]
    return int(found) if found < 2**64 else None


FAILS, PASSES, UNREADABLE = 0, 1, 2
READERS: dict[str, Callable[[str], float | None]] = {"number": number, "duration": duration, "size": size}
_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "==": operator.eq, "!=": operator.ne, ">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le,
}  # fmt: skip


def kind_of(value: object) -> tuple[str, float]:
    """How a label is read that is compared with `value`, and the value in the same unit."""
    match value:
        case Number(found):
            return "number", found
        case Duration(found) | Bytes(found):
            return "duration" if isinstance(value, Duration) else "size", found
        case _:
            raise TypeError(f"{value!r} is no amount")


def compare(text: str, kind: str, op: str, wanted: float) -> int:
    """FAILS, PASSES, or UNREADABLE for a label value that is no amount of its kind."""
    found = READERS[kind](text)
    if found is None:
        return UNREADABLE
    return PASSES if _OPERATORS[op](found, wanted) else FAILS


def complaint(text: str, kind: str) -> str:
    """Why a label value is UNREADABLE, in Go's words, which people look for."""
    if kind == "duration":
        return _of_duration(text)
    if kind == "size":
        digits, rest = re.match(r"([0-9.,]*)(.*)", text, re.DOTALL).groups()  # type: ignore[union-attr]  # it matches all
        if digits.strip(".,") and digits.count(".") < 2:
            return f"unhandled size name: {rest.strip().lower()}"
        return f'strconv.ParseFloat: parsing "{digits.replace(",", "")}": invalid syntax'
    problem = "value out of range" if _DECIMAL.fullmatch(text) or _HEXADECIMAL.fullmatch(text) else "invalid syntax"
    return f'strconv.ParseFloat: parsing "{text}": {problem}'


_AMOUNT = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)([^0-9.]*)")


def _of_duration(text: str) -> str:
    """As Go's time.ParseDuration reads: an amount and its unit, again and again."""
    at = 1 if text[:1] in ("+", "-") else 0
    while (part := _AMOUNT.match(text, at)) is not None:
        if not part[1]:
            return f'time: missing unit in duration "{text}"'
        if part[1] not in _NS:
            return f'time: unknown unit "{part[1]}" in duration "{text}"'
        at = part.end()
    return f'time: invalid duration "{text}"'
