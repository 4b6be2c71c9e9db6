"""Times and numbers in requests and answers, in the spellings that Loki takes and gives."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from atalaia.environment.errors import InputError
from atalaia.environment.units import parse_duration

_HOUR = 3_600_000_000_000


def parse_time(text: str, name: str) -> int:
    """Nanoseconds since 1970 of integer seconds or nanoseconds, float seconds or RFC 3339. Raises InputError."""
    try:
        if re.fullmatch(r"-?\d+", text):
            number = int(text)
            # Loki's rule: more than ten digits are nanoseconds.
            return number if len(text.lstrip("-")) > 10 else number * 10**9
        if re.fullmatch(r"-?\d*\.\d+([eE][+-]?\d+)?|-?\d+[eE][+-]?\d+", text):
            return int(Decimal(text) * 10**9)
        fraction = re.search(r"\.(\d+)", text)
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
        if moment.tzinfo is None:
            raise ValueError("no time zone")
        whole = int(moment.replace(microsecond=0).timestamp()) * 10**9
        return whole + (int(fraction[1][:9].ljust(9, "0")) if fraction else 0)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name}={text!r} is not a time: give nanoseconds, seconds or RFC 3339") from error


def parse_step(text: str, name: str) -> int:
    """A duration (`30s`) or a number of seconds, in ns. Raises InputError unless it is above zero."""
    try:
        found = int(Decimal(text) * 10**9) if re.fullmatch(r"\d+(\.\d+)?", text) else parse_duration(text)
    except ValueError as error:
        raise InputError(f"{name}={text!r} is not a duration such as 30s") from error
    if found <= 0:
        raise InputError(f"{name}={text!r} must be above zero")
    return found


def bounds(parameters: Mapping[str, str]) -> tuple[int, int]:
    """`start` and `end` in ns: the last hour unless `start`, `end` or `since` say otherwise."""
    end = parse_time(parameters["end"], "end") if parameters.get("end") else time.time_ns()
    since = parse_step(parameters["since"], "since") if parameters.get("since") else _HOUR
    start = parse_time(parameters["start"], "start") if parameters.get("start") else end - since
    if end < start:
        raise InputError("end is before start")
    return start, end


def default_step(start: int, end: int) -> int:
    """The step when none is given: 1/250 of the time asked for, in whole seconds, at least one."""
    return max((end - start) // 250 // 10**9, 1) * 10**9


def show_float(value: float) -> str:
    """A sample as Go's FormatFloat(v, 'f', -1, 64) writes it."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value == int(value) and abs(value) < 1e15:
        return str(int(value)) if value or str(value)[0] != "-" else "-0"
    return format(Decimal(repr(value)), "f")


def show_moment(ns: int) -> float | int:
    """A sample's time: seconds with milliseconds."""
    millis = ns // 1_000_000
    return millis // 1000 if millis % 1000 == 0 else millis / 1000
