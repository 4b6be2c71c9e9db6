"""Times as log lines write them -> nanoseconds, whole columns at once.

A time is taken apart by a pattern's groups: `t`, 19 characters "2006-01-02 15:04:05" with any separators (the other
`Form`s are brought into it), `f`, the digits of its fraction, `z`, its zone, `y`, its year.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import StrEnum
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.environment.errors import InputError
from atalaia.logql.template.gotime import Layout

S = 10**9
_WHOLE = Layout("2006-01-02 15:04:05")
_MONTHS = pa.array(["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"])
_NUMBERS = pa.array([f"{month:02d}" for month in range(1, 13)])
_HOUR = 3600
_QUARTER = 900  # seconds; zones differ by multiples of this
# Abbreviations that PostgreSQL's default set and RFC 822 agree on, in seconds east of Greenwich.
_ABBREVIATIONS = {
    **dict.fromkeys(("Z", "UTC", "GMT", "UCT", "WET"), 0),
    **dict.fromkeys(("CET", "MEZ", "BST", "WEST"), _HOUR),
    **dict.fromkeys(("CEST", "MESZ", "EET", "SAST"), 2 * _HOUR),
    **dict.fromkeys(("EEST", "MSK"), 3 * _HOUR),
    **dict.fromkeys(("HKT", "SGT", "AWST"), 8 * _HOUR),
    **dict.fromkeys(("JST", "KST"), 9 * _HOUR),
    "AEST": 10 * _HOUR,
    "AEDT": 11 * _HOUR,
    "NZST": 12 * _HOUR,
    "NZDT": 13 * _HOUR,
    "AST": -4 * _HOUR,
    "EST": -5 * _HOUR,
    "EDT": -4 * _HOUR,
    "CST": -6 * _HOUR,
    "CDT": -5 * _HOUR,
    "MST": -7 * _HOUR,
    "MDT": -6 * _HOUR,
    "PST": -8 * _HOUR,
    "PDT": -7 * _HOUR,
    "BRT": -3 * _HOUR,
    "BRST": -2 * _HOUR,
    "ART": -3 * _HOUR,
    "CLT": -4 * _HOUR,
    "CLST": -3 * _HOUR,
}


class Form(StrEnum):
    """How `t` is written."""

    ISO = "2006-01-02 15:04:05"
    CLF = "02/Jan/2006:15:04:05"
    SYSLOG = "Jan _2 15:04:05"
    APACHE = "Jan _2 15:04:05, and 2006"
    REDIS = "02 Jan 2006 15:04:05"


@dataclass(frozen=True, slots=True)
class Moments:
    """N times: `ns` int64[N] as the clock showed them, `offset` int64[N] seconds east; `known`, `zoned` bool[N]."""

    ns: np.ndarray
    known: np.ndarray
    offset: np.ndarray
    zoned: np.ndarray

    @classmethod
    def none(cls, count: int) -> Moments:
        """No time in any row."""
        zeros, no = np.zeros(count, np.int64), np.zeros(count, bool)
        return cls(zeros, no, zeros.copy(), no.copy())

    def put(self, rows: np.ndarray, other: Moments) -> None:
        """Set the rows (int64[M]) to the M times of `other`."""
        self.ns[rows], self.known[rows] = other.ns, other.known
        self.offset[rows], self.zoned[rows] = other.offset, other.zoned


def moments(groups: Mapping[str, pa.Array], form: Form, latest: datetime, year: int | None) -> Moments:
    """The times of a pattern's groups. A time without a year is of `year`, else the last one before `latest`."""
    count = len(groups["t"])
    text = _iso(groups, form, latest, year)
    # The year 0000 would count as one that is not told.
    whole = _WHOLE.parse(pc.if_else(pc.starts_with(text, "0000"), None, text))
    ns = pc.fill_null(whole, 0).to_numpy(zero_copy_only=False).copy()
    known = pc.is_valid(whole).to_numpy(zero_copy_only=False)
    if (fraction := groups.get("f")) is not None:
        digits = pc.ascii_rpad(pc.utf8_slice_codeunits(pc.fill_null(fraction, ""), 0, 9), 9, "0")
        ns += digits.cast(pa.int64()).to_numpy(zero_copy_only=False)
    offset, zoned = np.zeros(count, np.int64), np.zeros(count, bool)
    if (zone := groups.get("z")) is not None:
        encoded = pc.fill_null(zone, "").dictionary_encode()
        values = [offset_of(name) for name in encoded.dictionary.to_pylist()]
        codes = encoded.indices.to_numpy(zero_copy_only=False)
        offset = np.array([value or 0 for value in values], np.int64)[codes]
        zoned = np.array([value is not None for value in values], bool)[codes]
    return Moments(ns, known, offset, zoned & known)


def _iso(groups: Mapping[str, pa.Array], form: Form, latest: datetime, year: int | None) -> pa.Array:
    """The texts as Form.ISO; null where they are not what the form says."""
    text = groups["t"]

    def cut(start: int, stop: int) -> pa.Array:
        return pc.utf8_slice_codeunits(text, start, stop)

    def number(month: pa.Array) -> pa.Array:
        return _NUMBERS.take(pc.index_in(month, _MONTHS))

    def joined(years: pa.Array, month: pa.Array, day: pa.Array, clock: pa.Array) -> pa.Array:
        date = pc.binary_join_element_wise(years, number(month), pc.replace_substring(day, " ", "0"), "-")
        return pc.binary_join_element_wise(date, clock, " ")

    if form is Form.ISO:
        for at, character in ((4, b"-"), (7, b"-"), (10, b" ")):
            text = pc.binary_replace_slice(text, at, at + 1, character)
        return text
    if form is Form.CLF:
        return joined(cut(7, 11), cut(3, 6), cut(0, 2), cut(12, 20))
    if form is Form.APACHE:
        return joined(groups["y"], cut(0, 3), cut(4, 6), cut(7, 15))
    if form is Form.REDIS:
        return joined(cut(7, 11), cut(3, 6), cut(0, 2), cut(12, 20))
    days = cut(0, 6).dictionary_encode()
    years = pa.array([_year(day, latest, year) for day in days.dictionary.to_pylist()], pa.utf8())
    return joined(years.take(days.indices), cut(0, 3), cut(4, 6), cut(7, 15))


def _year(day: str | None, latest: datetime, year: int | None) -> str | None:
    """The year of a day such as "Aug  9"."""
    for candidate in [year] if year else range(latest.year + 1, latest.year - 9, -1):
        # A leap day has no meaning in most years.
        with contextlib.suppress(ValueError):
            found = datetime.strptime(f"{candidate} {day}", "%Y %b %d").replace(tzinfo=UTC)
            if year or found - latest <= timedelta(days=1):
                return f"{found.year:04d}"
    return None


def offset_of(zone: str | None) -> int | None:
    """Seconds east of Greenwich of "Z", "+02", "-03:00", "CEST"; None for nothing and for what is not known."""
    if not zone:
        return None
    if zone[0] in "+-":
        digits = zone[1:].replace(":", "").ljust(4, "0")
        seconds = int(digits[:2]) * _HOUR + int(digits[2:4]) * 60
        return -seconds if zone[0] == "-" else seconds
    return _ABBREVIATIONS.get(zone)


def timezone_of(text: str) -> tzinfo:
    """What --timezone names: UTC, local, +02:00, America/Sao_Paulo. Raises InputError."""
    if text.lower() == "local":
        return datetime.now().astimezone().tzinfo or UTC
    if text[:1] in "+-" and text[1:].replace(":", "").isdigit():
        return timezone(timedelta(seconds=offset_of(text) or 0))
    try:
        return UTC if text.upper() in ("UTC", "Z") else ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InputError(
            f"--timezone {text!r} is not known", "give UTC, local, +02:00 or a name such as America/Sao_Paulo"
        ) from error


def to_utc(ns: np.ndarray, zone: tzinfo) -> np.ndarray:
    """Times (ns) that clocks in `zone` showed, as UTC; each distinct hour is asked for once."""
    hours, places = np.unique(ns // (_HOUR * S), return_inverse=True)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    offsets = []
    for hour in hours.tolist():
        moment = (epoch + timedelta(hours=hour)).replace(tzinfo=zone)
        offsets.append(int((moment.utcoffset() or timedelta()).total_seconds()))
    return ns - np.array(offsets, np.int64)[places] * S


def difference(local: np.ndarray, utc: np.ndarray) -> int | None:
    """By how many seconds clocks that showed `local` were ahead of `utc` (ns), to a quarter of an hour; None: no rows.

    The most frequent difference: lines are delivered late at times.
    """
    if not len(local):
        return None
    quarters = np.round((local - utc) / (_QUARTER * S)).astype(np.int64)
    values, counts = np.unique(quarters, return_counts=True)
    return int(values[counts.argmax()]) * _QUARTER
