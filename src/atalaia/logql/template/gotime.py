"""Go's reference-time layouts ("2006-01-02 15:04:05.000 MST"), parsed for whole columns at once.

Layouts of fixed width are read by `fixedtime`; rows that this cannot read go, each distinct value once, through a
regular expression made from the same layout. Source: Go's package time, `Layout` and `Parse`.
"""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import pyarrow as pa
import pyarrow.compute as pc

from . import fixedtime, unixtime
from .fixedtime import Field
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
_PATTERN = {
    "January": r"(?P<month_name>[A-Za-z]+)",
    "Jan": r"(?P<month_name>[A-Za-z]{3})",
    "Monday": r"[A-Za-z]+",
    "Mon": r"[A-Za-z]{3}",
    "MST": r"(?P<zone>[A-Z]{3,5}|[+-]\d\d(?:\d\d)?)",
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
            self.zone: tzinfo = ZoneInfo(location) if location else UTC
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise LayoutError(f"unknown location {location!r}") from error
        if self.unix is None and not CHUNK.search(self.text):
            raise LayoutError(f"{layout!r} has no part of Go's reference time 2006-01-02 15:04:05 in it")
        self._pattern, self._fields, self._width = self._compile()

    def _compile(self) -> tuple[re.Pattern[str], list[Field], int]:
        pattern, fields, at, width, fixed = "", [], 0, 0, True
        for match in CHUNK.finditer(self.text):
            literal, chunk = self.text[at : match.start()], match[0]
            pattern += _literal(literal)
            fields += [Field(character, width + i, 0) for i, character in enumerate(literal)]
            width += len(literal.encode())
            at = match.end()
            if chunk[0] in ".,":
                pattern += (
                    r"(?:[.,](?P<fraction>\d+))?" if chunk[1] == "9" else rf"[.,](?P<fraction>\d{{{len(chunk) - 1}}})"
                )
                fixed &= chunk[1] == "0" and len(chunk) <= 10
                fields.append(Field("fraction", width + 1, len(chunk) - 1))
            elif chunk[0] in "Z-" and len(chunk) > 1:
                pattern += (
                    r"(?P<offset>Z|[+-]\d\d:?\d\d(?::?\d\d)?|[+-]\d\d)"
                    if chunk[0] == "Z"
                    else r"(?P<offset>[+-]\d\d:?\d\d(?::?\d\d)?|[+-]\d\d)"
                )
                fixed = False
            else:
                pattern += _PATTERN[chunk]
                # Go takes a fraction behind the seconds even where the layout has none.
                if chunk in ("05", "5") and not re.match(r"[.,][09]", self.text[at:]):
                    pattern += r"(?:[.,](?P<fraction>\d+))?"
                fixed &= chunk in ("2006", "01", "02", "15", "04", "05", "MST")
                fields.append(Field(chunk, width, len(chunk)))
            width += len(chunk)
        literal = self.text[at:]
        pattern += _literal(literal)
        fields += [Field(character, width + i, 0) for i, character in enumerate(literal)]
        fixed = fixed and self.zone is UTC and self.text.isascii() and any(f.kind == "2006" for f in fields)
        try:
            compiled = re.compile(pattern, re.ASCII)
        except re.error as error:
            raise LayoutError(f"{self.text!r} names a part of the time twice") from error
        return compiled, fields if fixed else [], width + len(literal)

    def parse(self, values: pa.Array) -> pa.Array:
        """Nanoseconds since 1970 (int64) of each value; null where a value does not follow the layout."""
        if self.unix is not None:
            return unixtime.parse(values, self.unix)
        found = (
            fixedtime.parse(values, self._fields, self._width) if self._fields else pa.nulls(len(values), pa.int64())
        )
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
    abbreviation = part.get("zone")
    if offset := part.get("offset"):
        zone = _offset(offset)
    elif abbreviation and abbreviation[0] in "+-":
        zone = _offset(abbreviation)
    elif abbreviation == "UTC":
        zone = UTC
    if not year:
        year = _year_of(month, number("day", 1), zone)
    if part.get("yday"):
        moment = datetime(year, 1, 1, hour, number("minute", 0), number("second", 0), tzinfo=zone) + timedelta(
            days=number("yday", 1) - 1
        )
    else:
        moment = datetime(year, month, number("day", 1), hour, number("minute", 0), number("second", 0), tzinfo=zone)
    if abbreviation and isinstance(zone, ZoneInfo):
        moment = _named(moment, abbreviation)
    fraction = ((part.get("fraction") or "") + "000000000")[:9]
    delta = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86400 + delta.seconds) * NS + int(fraction)


def _year_of(month: int, day: int, zone: tzinfo) -> int:
    """For a time without a year (syslog): the latest year in which the day is not far in the future."""
    today = datetime.now(zone)
    for year in range(today.year + 1, today.year - 9, -1):
        # A leap day has no meaning in most years.
        with contextlib.suppress(ValueError):
            if datetime(year, month, day, tzinfo=zone) - today <= timedelta(days=2):
                return year
    raise ValueError("no such day")


def _named(moment: datetime, abbreviation: str) -> datetime:
    """The time with the zone that its location calls by this name; as Go, UTC for a name it does not have."""
    for other in (moment, moment.replace(fold=1), moment.replace(month=1, day=1), moment.replace(month=7, day=1)):
        if other.tzname() == abbreviation:
            return moment.replace(tzinfo=timezone(other.utcoffset() or timedelta()))
    return moment.replace(tzinfo=UTC)


def _literal(text: str) -> str:
    """What stands between the parts; as in Go, a run of spaces stands for any run of spaces."""
    return re.sub(r"(?:\\ )+", " +", re.escape(text))


def _offset(text: str) -> tzinfo:
    if text == "Z":
        return UTC
    digits = text[1:].replace(":", "").ljust(4, "0")
    minutes = int(digits[:2]) * 60 + int(digits[2:4])
    return timezone(timedelta(minutes=-minutes if text[0] == "-" else minutes))
