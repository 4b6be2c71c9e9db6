"""The times of PostgreSQL's logs (`%m`, `%t`, `%n`), with zone abbreviations as PostgreSQL's own table has them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from zoneinfo import ZoneInfo

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.formats.words import data
from atalaia.logql.template.gotime import Layout
from atalaia.logql.template.unixtime import NS

_MILLISECONDS = Layout("2006-01-02 15:04:05.000")
_SECONDS = Layout("2006-01-02 15:04:05")
_YEARS = range(1990, 2040)


@cache
def offsets(zone: str | None = None) -> Mapping[str, int]:
    """Zone abbreviations and their seconds east of Greenwich; those that `zone` (of the tz database) uses win."""
    found: dict[str, int] = dict(data("zones.yaml"))
    if zone is not None:
        place = ZoneInfo(zone)
        for year in _YEARS:
            for month in (1, 4, 7, 10):
                moment = datetime(year, month, 1, tzinfo=place)
                offset = moment.utcoffset()
                if offset is not None:
                    found[moment.tzname() or zone] = int(offset.total_seconds())
    return found


def _seconds(name: str, zone: str | None) -> int | None:
    """Seconds east of Greenwich of CET, +03, -0330, +05:30."""
    if name[:1] in ("+", "-"):
        digits = name[1:].replace(":", "")
        if not digits.isascii() or not digits.isdigit() or len(digits) > 6:
            return None
        digits = digits.zfill(len(digits) + len(digits) % 2).ljust(6, "0")
        total = int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:])
        return -total if name[0] == "-" else total
    return offsets(zone).get(name, offsets().get(name.upper()))


def parse(local: pa.Array, names: pa.Array, zone: str | None = None) -> pa.Array:
    """Nanoseconds since 1970 (int64) of local times (utf8, with or without milliseconds) in zones of these names.

    Null for what is no time; a zone that nobody knows is taken as UTC.
    """
    found = _MILLISECONDS.parse(local) if _long(local) else _SECONDS.parse(local)
    encoded = names.dictionary_encode()
    shifts = [_seconds(name, zone) or 0 for name in encoded.dictionary.to_pylist()]
    if not any(shifts):
        return found
    shift = pa.array([seconds * NS for seconds in shifts], pa.int64()).take(encoded.indices)
    return pc.subtract(found, pc.fill_null(shift, 0))


def _long(local: pa.Array) -> bool:
    """Whether times have milliseconds; all of a column have them or none."""
    longest = pc.max(pc.binary_length(local)).as_py()
    return longest is not None and longest > len("2006-01-02 15:04:05")


def parse_whole(values: pa.Array, zone: str | None = None) -> pa.Array:
    """As `parse`, of times with their zone behind a space ("2026-03-01 12:00:00.250 UTC")."""
    length = pc.binary_length(values)
    wide = pc.max(length).as_py() or 0
    at = 23 if wide and _dotted(values) else 19
    return parse(pc.utf8_slice_codeunits(values, 0, at), pc.utf8_slice_codeunits(values, at + 1), zone)


def _dotted(values: pa.Array) -> bool:
    return pc.any(pc.equal(pc.utf8_slice_codeunits(values, 19, 20), ".")).as_py() is True


def epoch(values: pa.Array) -> pa.Array:
    """Nanoseconds since 1970 (int64) of `%n`: seconds, a point, milliseconds; null for what is no such number."""
    good = pc.match_substring_regex(values, r"^[0-9]{1,10}\.[0-9]{3}$")
    digits = pc.replace_substring(pc.if_else(good, values, None), ".", "")
    return pc.multiply(digits.cast(pa.int64()), NS // 1000)


def filled(times: pa.Array, now: int) -> np.ndarray:
    """Times as int64[N]; what has none gets that of the entry before it, at the beginning `now`."""
    found: np.ndarray = pc.fill_null(pc.fill_null_forward(times), now).to_numpy(zero_copy_only=False)
    return found
