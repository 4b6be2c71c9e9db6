"""Times and numbers in requests and answers, in the spellings that Loki takes and gives."""

from __future__ import annotations

import time
from collections.abc import Mapping
from decimal import Decimal

from atalaia.environment.errors import InputError
from atalaia.environment.units import parse_duration
from atalaia.wire.times import FURTHEST, NUMBER, parse_time

_HOUR = 3_600_000_000_000


def parse_step(text: str, name: str) -> int:
    """A duration (`30s`) or a number of seconds, in ns. Raises InputError unless it is above zero."""
    try:
        found = int(Decimal(text) * 10**9) if NUMBER.fullmatch(text) else parse_duration(text)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name}={text[:100]!r} is not a duration such as 30s") from error
    if not 0 < found <= FURTHEST:
        raise InputError(f"{name}={text[:100]!r} must be above zero, and less than 290 years")
    return found


def bounds(parameters: Mapping[str, str]) -> tuple[int, int]:
    """`start` and `end` in ns: the last hour unless `start`, `end` or `since` say otherwise.

    As in Loki, `since` counts back from now where `end` is in the future.
    """
    now = time.time_ns()
    end = parse_time(parameters["end"], "end") if parameters.get("end") else now
    since = parse_step(parameters["since"], "since") if parameters.get("since") else _HOUR
    start = parse_time(parameters["start"], "start") if parameters.get("start") else min(end, now) - since
    if end < start:
        raise InputError("end timestamp must not be before start time")
    return start, end


def default_step(start: int, end: int) -> int:
    """The step when none is given: 1/250 of the time asked for, in whole seconds, at least one."""
    return max((end - start) // 250 // 10**9, 1) * 10**9


def show_float(value: float) -> str:
    """A sample as Go's FormatFloat(v, 'f', -1, 64) writes it."""
    text = repr(value)
    if "n" in text:
        return {"nan": "NaN", "inf": "+Inf"}.get(text, "-Inf")
    return (format(Decimal(text), "f") if "e" in text else text).removesuffix(".0")


def show_moment(ns: int) -> float | int:
    """A sample's time: seconds with milliseconds."""
    millis = ns // 1_000_000
    return millis // 1000 if millis % 1000 == 0 else millis / 1000
