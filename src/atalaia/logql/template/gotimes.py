"""Moments as templates have them, Go's time.Time: written by a layout, and read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from .gotime import CHUNK, Layout, LayoutError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BEGINNING = -62_135_596_800_000_000_000  # the year 1, Go's moment that is none
_OFFSETS = {"Z07:00:00", "Z070000", "Z07:00", "Z0700", "Z07", "-07:00:00", "-070000", "-07:00", "-0700", "-07"}
# Chunks of a layout as strftime writes them, and whether a zero in front is left out.
_PARTS = {
    "January": ("%B", False), "Jan": ("%b", False), "Monday": ("%A", False), "Mon": ("%a", False),
    "01": ("%m", False), "1": ("%m", True), "02": ("%d", False), "2": ("%d", True), "002": ("%j", False),
    "15": ("%H", False), "03": ("%I", False), "3": ("%I", True), "04": ("%M", False), "4": ("%M", True),
    "05": ("%S", False), "5": ("%S", True), "06": ("%y", False), "PM": ("%p", False),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Moment:
    """Nanoseconds since 1970, seen from a zone."""

    ns: int
    zone: tzinfo = UTC

    def __str__(self) -> str:
        return self.format("2006-01-02 15:04:05.999999999 -0700 MST")

    def __bool__(self) -> bool:
        return True

    def format(self, layout: str) -> str:
        """The moment in the way in which the layout writes Go's reference time."""
        local, fraction = self.local(), self.ns % 10**9
        return CHUNK.sub(lambda chunk: _part(chunk[0], local, f"{fraction:09d}"), layout)

    def local(self) -> datetime:
        """The moment in its zone, in whole seconds."""
        try:
            return (_EPOCH + timedelta(seconds=self.ns // 10**9)).astimezone(self.zone)
        except OverflowError as error:
            raise ValueError("a time outside of the years 1 to 9999") from error

    def method(self, name: str, arguments: list[Any]) -> Any:
        """What a method of Go's time.Time gives; the more common ones are here. Raises LookupError for others."""
        if name == "Format" and len(arguments) == 1:
            return self.format(arguments[0])
        if arguments:
            raise LookupError(name)
        return _METHODS[name](self)


_METHODS: Mapping[str, Callable[[Moment], Any]] = {
    "Unix": lambda moment: moment.ns // 10**9,
    "UnixMilli": lambda moment: moment.ns // 10**6,
    "UnixMicro": lambda moment: moment.ns // 10**3,
    "UnixNano": lambda moment: moment.ns,
    "Year": lambda moment: moment.local().year,
    "Month": lambda moment: moment.format("January"),
    "Day": lambda moment: moment.local().day,
    "YearDay": lambda moment: moment.local().timetuple().tm_yday,
    "Weekday": lambda moment: moment.format("Monday"),
    "Hour": lambda moment: moment.local().hour,
    "Minute": lambda moment: moment.local().minute,
    "Second": lambda moment: moment.local().second,
    "Nanosecond": lambda moment: moment.ns % 10**9,
    "String": str,
    "UTC": lambda moment: Moment(moment.ns),
    "IsZero": lambda moment: moment.ns == _BEGINNING,
}


def _part(chunk: str, local: datetime, fraction: str) -> str:
    if chunk in _PARTS:
        directive, short = _PARTS[chunk]
        return local.strftime(directive).removeprefix("0") if short else local.strftime(directive)
    if chunk[0] in ".,":
        digits = fraction[: len(chunk) - 1]
        digits = digits.rstrip("0") if chunk[1] == "9" else digits
        return chunk[0] + digits if digits else ""
    if chunk in _OFFSETS:
        return _offset(chunk, local)
    match chunk:
        case "2006":
            return f"{local.year:04d}"
        case "_2006":
            return f"_{local.year:04d}"
        case "_2":
            return f"{local.day:2d}"
        case "__2":
            return f"{local.timetuple().tm_yday:3d}"
        case "pm":
            return local.strftime("%p").lower()
        case _:
            name = local.tzname() or ""
            return _offset("-07", local) if name.startswith("UTC") and name != "UTC" else name


def _offset(chunk: str, local: datetime) -> str:
    seconds = int((local.utcoffset() or timedelta()).total_seconds())
    if chunk[0] == "Z" and seconds == 0:
        return "Z"
    hours, rest = divmod(abs(seconds), 3600)
    colon = ":" if ":" in chunk else ""
    parts = [f"{hours:02d}", f"{rest // 60:02d}", f"{rest % 60:02d}"][: len(chunk.replace(":", "")) // 2]
    return f"{'-' if seconds < 0 else '+'}{colon.join(parts)}"


def now() -> Moment:
    """This moment."""
    return Moment(time.time_ns())


def read(layout: str, text: str, zone: str = "") -> Moment:
    """A text by a layout; Go's moment that is none for what does not follow it. An unknown zone is UTC."""
    try:
        ZoneInfo(zone or "UTC")
    except (ZoneInfoNotFoundError, ValueError, OSError):
        zone = ""
    try:
        found = Layout(layout, zone or None).parse_one(text)
    except LayoutError:
        found = None
    return Moment(_BEGINNING) if found is None else Moment(found, ZoneInfo(zone) if zone else UTC)


def of_number(text: str) -> Moment:
    """Days, seconds, milli-, micro- or nanoseconds since 1970, told apart by how many digits there are."""
    units = {5: 86_400 * 10**9, 10: 10**9, 13: 10**6, 16: 10**3, 19: 1}
    if not text.isascii() or not text.isdigit() or len(text) not in units:
        raise ValueError(f"unable to parse time '{text}'")
    return Moment(int(text) * units[len(text)])
