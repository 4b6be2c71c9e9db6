"""Go's reference-time layouts ("2006-01-02 15:04:05.000 MST"), parsed for whole columns at once.

Layouts of fixed width are read by `fixedtime`; rows that this cannot read go, each distinct value once, through a
regular expression made from the same layout. Source: Go's package time, `Layout` and `Parse`.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from . import fixedtime, unixtime
from .fixedtime import Calendar, Shape
from .unixtime import NS

NAMED = {
    "ANSIC": "Mon Jan _2 15:04:05 2006",
    "UnixDate": "Mon Jan _2 15:04:05 MST 2006",
    "RubyDate": "Mon Jan 02 15:04:05 -0700 2006",
    "RFC822": "02 Jan 06 15:04 MST",
    "RFC822Z": "02 Jan 06 15:04 -0700",
    "RFC850": "Monday, 02-Jan-06 15:04:05 MST",
    "RFC1123": "Mon, 02 Jan 2006 15:04:05 MST",
    "RFC1123Z": "Mon, 02 Jan 2006 15:04:05 -0700",
    "RFC3339": "2006-01-02T15:04:05Z07:00",
    "RFC3339Nano": "2006-01-02T15:04:05.999999999Z07:00",
}
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LONG_MONTHS = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
]
# Longest first, as Go's nextStdChunk looks for them.
CHUNK = re.compile(
    r"January|Jan|Monday|Mon|MST|2006|__2|_2006|_2|002|01|02|03|04|05|06|15|PM|pm|"
    r"Z07:00:00|Z070000|Z07:00|Z0700|Z07|-07:00:00|-070000|-07:00|-0700|-07|[.,]0+(?!\d)|[.,]9+(?!\d)|1|2|3|4|5"
)
_WEEK = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PATTERN = {
    "January": r"(?P<month_name>[A-Za-z]+)",
    "Jan": r"(?P<month_name>[A-Za-z]{3})",
    "Monday": rf"(?i:{'|'.join(_WEEK)})",
    "Mon": rf"(?i:{'|'.join(day[:3] for day in _WEEK)})",
    "MST": r"(?P<zone>GMT[+-]\d{1,2}|ChST|MeST|WITA|[A-Z]{3,4}T|[A-Z]{3}(?![A-Z])|[+-]\d\d(?:\d\d)?)",
    "2006": r"(?P<year>\d{4})",
    "_2006": r"_(?P<year>\d{4})",
    "_2": r"(?P<day> ?\d\d?)",
    "__2": r"(?P<yday>  \d| \d\d|\d{3})",
    "002": r"(?P<yday>\d{3})",
    "01": r"(?P<month>\d\d)",
    "1": r"(?P<month>\d\d?)",
    "02": r"(?P<day>\d\d)",
    "2": r"(?P<day>\d\d?)",
    "15": r"(?P<hour>\d\d?)",
    "03": r"(?P<hour12>\d\d)",
    "3": r"(?P<hour12>\d\d?)",
    "04": r"(?P<minute>\d\d)",
    "4": r"(?P<minute>\d\d?)",
    "05": r"(?P<second>\d\d)",
    "5": r"(?P<second>\d\d?)",
    "06": r"(?P<year2>\d\d)",
    "PM": r"(?P<half>AM|PM)",
    "pm": r"(?P<half>am|pm)",
    "-07:00:00": r"(?P<offset>[+-]\d\d:\d\d:\d\d)",
    "-070000": r"(?P<offset>[+-]\d{6})",
    "-07:00": r"(?P<offset>[+-]\d\d:\d\d)",
    "-0700": r"(?P<offset>[+-]\d{4})",
    "-07": r"(?P<offset>[+-]\d\d)",
}


class LayoutError(ValueError):
    """A layout or location cannot be used."""


class Layout:
    """One layout with the location that times without a zone are meant in."""

    def __init__(self, layout: str, location: str | None = None) -> None:
        """Raises LayoutError for a layout without a year-free meaning or an unknown location."""
        self.text = NAMED.get(layout, layout)
        self.unix = unixtime.FACTORS.get(layout)
        try:
            self.zone: tzinfo = _location(location) if location and location != "UTC" else UTC
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise LayoutError(f"unknown location {location!r}") from error
        if self.unix is None and not CHUNK.search(self.text):
            raise LayoutError(f"{layout!r} has no part of Go's reference time 2006-01-02 15:04:05 in it")
        self._pattern, self._shape = self._compile()
        # Without a location a zone's name that is none here says nothing, as in Go.
        local = self.zone is not UTC
        self._calendar = Calendar(
            lambda month, day: _year_of(month, day, self.zone),
            (lambda seconds: _utc(seconds, self.zone)) if local else None,
            (lambda seconds, name: _named(seconds, name, self.zone)) if local else None,
        )

    def _compile(self) -> tuple[re.Pattern[str], Shape | None]:
        pattern, at = "", 0
        parts: list[tuple[str, bool]] = []
        for match in CHUNK.finditer(self.text):
            literal, chunk = self.text[at : match.start()], match[0]
            pattern += _literal(literal)
            parts.append((literal, True))
            at = match.end()
            if chunk[0] in ".,":
                optional = chunk[1] == "9"
                digits = r"(?:[.,](?P<fraction>\d+))?" if optional else rf"[.,](?P<fraction>\d{{{len(chunk) - 1}}})"
                pattern += digits
                parts.append(("" if optional else chunk, False))
            elif chunk[0] == "Z":
                pattern += _PATTERN["-" + chunk[1:]].replace("<offset>", "<offset>Z|")
                parts.append((chunk, False))
            else:
                pattern += _PATTERN[chunk]
                parts.append((chunk, False))
                # Go takes a fraction behind the seconds even where the layout has none.
                if chunk in ("05", "5") and not re.match(r"[.,][09]", self.text[at:]):
                    pattern += r"(?:[.,](?P<fraction>\d+))?"
                    parts.append(("", False))
        pattern += _literal(self.text[at:])
        parts.append((self.text[at:], True))
        try:
            compiled = re.compile(pattern, re.ASCII)
        except re.error as error:
            raise LayoutError(f"{self.text!r} names a part of the time twice") from error
        shape = Shape(tuple(part for part in parts if part != ("", True)))
        return compiled, shape if shape.readable else None

    def parse(self, values: pa.Array) -> pa.Array:
        """Nanoseconds since 1970 (int64) of each value; null where a value does not follow the layout."""
        if self.unix is not None:
            return unixtime.parse(values, self.unix)
        found = pa.nulls(len(values), pa.int64())
        if self._shape:
            found = fixedtime.parse(values, self._shape, self._calendar)
        left = pc.and_(pc.is_null(found), pc.is_valid(values))
        if not pc.any(left).as_py():
            return found
        rest = values.filter(left).dictionary_encode()
        parsed = pa.array([self.parse_one(text) for text in rest.dictionary.to_pylist()], pa.int64())
        return pc.replace_with_mask(found, left, parsed.take(rest.indices))

    def parse_one(self, text: str) -> int | None:
        """Nanoseconds since 1970, or None."""
        match = self._pattern.fullmatch(text)
        if not match:
            return None
        part = match.groupdict()
        try:
            found = _assemble(part, self.zone)
        except (ValueError, OverflowError):
            return None
        return found if -(2**63) <= found < 2**63 else None


def _location(name: str) -> tzinfo:
    if name != "Local":
        return ZoneInfo(name)
    with Path("/etc/localtime").open("rb") as file:
        return ZoneInfo.from_file(file, key="Local")


def _assemble(part: dict[str, str | None], zone: tzinfo) -> int:
    def number(name: str, default: int) -> int:
        text = part.get(name)
        return int(text) if text else default

    year = number("year", 0)
    if part.get("year2"):
        two = number("year2", 0)
        year = two + (1900 if two >= 69 else 2000)
    month = number("month", 1)
    if name := part.get("month_name"):
        month = (_MONTHS.index(name[:3].capitalize()) if len(name) == 3 else _LONG_MONTHS.index(name.capitalize())) + 1
    hour = number("hour", 0)
    if part.get("hour12"):
        hour, half = number("hour12", 0), (part.get("half") or "").lower()
        if hour > 12:
            raise ValueError("not an hour of a half day")
        if half:
            hour = hour % 12 + (12 if half == "pm" else 0)
    if not year:
        year = _year_of(month, number("day", 1), zone)
    if part.get("yday"):
        moment = datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=number("yday", 1) - 1)
        if moment.year != year:
            raise ValueError("no such day")
    else:
        moment = datetime(year, month, number("day", 1), tzinfo=UTC)
    moment = moment.replace(hour=hour, minute=number("minute", 0), second=number("second", 0))
    seconds = (moment - EPOCH) // timedelta(seconds=1)
    fraction = ((part.get("fraction") or "") + "000000000")[:9]
    return (seconds - _behind(seconds, part.get("offset"), part.get("zone"), zone)) * NS + int(fraction)


def _behind(seconds: int, offset: str | None, name: str | None, zone: tzinfo) -> int:
    """How many seconds local time is ahead of UTC: by what the text says of its zone, or by the location."""
    if offset or (name and name[0] in "+-"):
        return _offset(offset or name or "")
    if name == "UTC":
        return 0
    if name:
        return _named(seconds, name, zone)
    return _ahead(seconds - _ahead(seconds, zone), zone)


def _ahead(seconds: int, zone: tzinfo) -> int:
    """How far a zone is ahead of UTC at a time, in seconds."""
    ahead = (EPOCH + timedelta(seconds=seconds)).astimezone(zone).utcoffset()
    return int((ahead or timedelta()).total_seconds())


def _utc(seconds: np.ndarray, zone: tzinfo) -> np.ndarray:
    """Local times as times of UTC, in seconds since 1970; of two that local time may mean, Go's."""
    # Since 1972 no zone changes within a quarter of an hour.
    unit = 900 if len(seconds) and seconds.min() > 2 * 366 * 86_400 else 1
    different, places = np.unique(seconds // unit, return_inverse=True)
    ahead = [_ahead(number * unit - _ahead(number * unit, zone), zone) for number in different.tolist()]
    return seconds - np.array(ahead, np.int64)[places]


def _year_of(month: int, day: int, zone: tzinfo) -> int:
    """For a time without a year (syslog): the latest year in which the day is not far in the future."""
    today = datetime.now(zone)
    for year in range(today.year + 1, today.year - 9, -1):
        # A leap day has no meaning in most years.
        with contextlib.suppress(ValueError):
            if datetime(year, month, day, tzinfo=zone) - today <= timedelta(days=2):
                return year
    raise ValueError("no such day")


def _named(seconds: int, name: str, zone: tzinfo) -> int:
    """How far ahead of UTC the zone is that a location calls so; as Go, 0 for a name that it does not have."""
    moment = EPOCH + timedelta(seconds=seconds)
    for other in (moment, moment + timedelta(days=1), moment.replace(month=1, day=1), moment.replace(month=7, day=1)):
        for local in (other.astimezone(zone), (other - timedelta(days=1)).astimezone(zone)):
            if local.tzname() == name:
                return int((local.utcoffset() or timedelta()).total_seconds())
    return 0


def _literal(text: str) -> str:
    """What stands between the parts; as in Go, a run of spaces stands for any run of spaces."""
    return re.sub(r"(?:\\ )+", " +", re.escape(text))


def _offset(text: str) -> int:
    """Seconds of Z, +07, +0700, +07:00, +070000 or +07:00:00. Raises ValueError."""
    if text == "Z":
        return 0
    digits = text[1:].replace(":", "").ljust(6, "0")
    hours, minutes, seconds = int(digits[:2]), int(digits[2:4]), int(digits[4:])
    if hours > 24 or minutes > 59 or seconds > 59:
        raise ValueError("no offset")
    return (hours * 3600 + minutes * 60 + seconds) * (-1 if text[0] == "-" else 1)
