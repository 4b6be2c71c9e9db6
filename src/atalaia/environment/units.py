"""Durations and sizes as people write them in configuration: `30d`, `1h30m`, `10GiB`, `256MB`."""

from __future__ import annotations

import re
from decimal import Decimal

NANOSECOND = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 7 * 86_400_000_000_000,
    "y": 365 * 86_400_000_000_000,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d|w|y)", re.ASCII)
_SIZES = {"": 1, "B": 1}
_SIZES |= {f"{p}{b}": 1000 ** (i + 1) for i, p in enumerate("KMGT") for b in ("", "B")}
_SIZES |= {f"{p}i{b}": 1024 ** (i + 1) for i, p in enumerate("KMGT") for b in ("", "B")}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)", re.IGNORECASE | re.ASCII)


def parse_duration(text: str) -> int:
    """A duration in nanoseconds; ValueError when `text` is not one (Go's spelling plus d, w, y)."""
    sign, body = (-1, text[1:]) if text.startswith("-") else (1, text)
    if body == "0":
        return 0
    parts = _DURATION.findall(body)
    if not parts or "".join(number + unit for number, unit in parts) != body:
        raise ValueError(f"{text!r} is not a duration such as 30d, 12h or 1h30m")
    return sign * sum(round(Decimal(number) * NANOSECOND[unit]) for number, unit in parts)


def parse_size(text: str) -> int:
    """A size in bytes; ValueError when `text` is not one."""
    match = _SIZE.fullmatch(text.strip())
    units = {unit.lower(): factor for unit, factor in _SIZES.items()}
    if not match or match[2].lower() not in units:
        raise ValueError(f"{text!r} is not a size such as 10GiB or 256MB")
    return round(Decimal(match[1]) * units[match[2].lower()])


def show_size(count: float) -> str:
    """A number of bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
