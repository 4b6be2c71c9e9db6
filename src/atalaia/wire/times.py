"""An entry's time as clients write it."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal

from atalaia.environment.errors import InputError

FURTHEST = 2**63 - 1  # ns; what an entry's time can be
NUMBER = re.compile(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,2})?")


def parse_time(text: str, name: str) -> int:
    """Nanoseconds since 1970 of integer seconds or nanoseconds, float seconds or RFC 3339. Raises InputError."""
    try:
        found = _time(text)
    except (ValueError, OverflowError) as error:
        raise InputError(f"{name}={text[:100]!r} is not a time: give nanoseconds, seconds or RFC 3339") from error
    if abs(found) > FURTHEST:
        raise InputError(f"{name}={text[:100]!r} is not between the years 1677 and 2262")
    return found


def _time(text: str) -> int:
    if NUMBER.fullmatch(text):
        whole = text.lstrip("+-").isdigit()
        # Loki's rule: more than ten digits are nanoseconds.
        return int(text) if whole and len(text.lstrip("+-")) > 10 else int(Decimal(text) * 10**9)
    fraction = re.search(r"[.,]([0-9]+)", text)
    moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    if moment.tzinfo is None:
        raise ValueError("no time zone")
    seconds = int(moment.replace(microsecond=0).timestamp()) * 10**9
    return seconds + (int(fraction[1][:9].ljust(9, "0")) if fraction else 0)
