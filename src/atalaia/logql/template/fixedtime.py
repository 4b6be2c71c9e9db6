"""Times whose parts stand at known places ("2006-01-02 15:04:05.000 MST"), read digit by digit across rows with NumPy.

Where a fraction or a zone may be longer or shorter, the length of the text says where the parts are, or leaves very few
ways; what none of them reads is null here, and gotime.py reads it more slowly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .unixtime import NS

_FIXED = frozenset({"2006", "06", "01", "02", "_2", "15", "04", "05", "Jan", "Mon"})
_ZONES = {
    "Z07:00": (("Z", 1), ("offset", 6)), "Z0700": (("Z", 1), ("offset", 5)), "Z07": (("Z", 1), ("offset", 3)),
    "-07:00": (("offset", 6),), "-0700": (("offset", 5),), "-07": (("offset", 3),),
    "MST": (("MST", 3), ("offset", 3), ("MST", 4)),
}  # fmt: skip
_KINDS = {"06": "2006", "_2": "02", "Jan": "01"}
_MEANINGS = {"_2": "02", "Jan": "01", "Z": "zone", "offset": "zone"}
_LENGTHS = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])


def _keys(names: str) -> np.ndarray:
    return np.array([int.from_bytes(name.lower().encode(), "big") for name in names.split()])


_MONTHS = _keys("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec")
_DAYS = _keys("Mon Tue Wed Thu Fri Sat Sun")


@dataclass(frozen=True, slots=True)
class Field:
    """`width` columns from `at` on. `kind` is a part of Go's reference time, "fraction", "offset", or characters."""

    kind: str
    at: int
    width: int
    literal: bool = False


@dataclass(frozen=True, slots=True)
class Calendar:
    """What the text alone does not say.

    `years`: a month and a day to their year, for layouts without one (ValueError: there is no such day). `utc`:
    seconds of local time since 1970 to those of UTC; `named`: how many seconds a zone of this name is ahead of UTC at a
    local time. None where local time is UTC, and a name says nothing.
    """

    years: Callable[[int, int], int]
    utc: Callable[[np.ndarray], np.ndarray] | None
    named: Callable[[int, str], int] | None


@dataclass(frozen=True, slots=True)
class Shape:
    """The parts of a layout: (text, True) or (chunk, False); the chunk "" is where a fraction may stand."""

    parts: tuple[tuple[str, bool], ...]

    @property
    def readable(self) -> bool:
        """Whether all parts are known here, and none is there twice."""
        chunks = [part for part, literal in self.parts if not literal]
        kinds = ["zone" if c in _ZONES else "fraction" if c[:1] in (".", ",", "") else _KINDS.get(c, c) for c in chunks]
        known = all(c in _FIXED or c in _ZONES or c == "" or (c[0] in ".," and 1 < len(c) <= 10) for c in chunks)
        return known and len(set(kinds)) == len(kinds) and all(t.isascii() for t, _ in self.parts)

    def ways(self, width: int) -> Iterator[list[Field]]:
        """The fields of texts of this many bytes, in each of the ways in which they may be so long."""
        left = width - sum(len(part) for part, literal in self.parts if literal or part not in _ZONES)
        zones = next((_ZONES[part] for part, literal in self.parts if not literal and part in _ZONES), (("", 0),))
        optional = ("", False) in self.parts
        for zone in zones:
            fraction = left - zone[1]
            if fraction == 0 or (optional and 2 <= fraction <= 10):
                yield self._fields(zone, fraction)

    def _fields(self, zone: tuple[str, int], fraction: int) -> list[Field]:
        fields, at = [], 0
        for part, literal in self.parts:
            if literal or part in _FIXED:
                found = Field(part, at, len(part), literal)
            elif part in _ZONES:
                found = Field(zone[0], at, zone[1])
            else:
                size = len(part) or fraction
                found = Field("fraction", at + 1, size - 1)
                if not size:
                    continue
                at += 1
            fields.append(found)
            at += found.width
        return fields


def parse(values: pa.Array, shape: Shape, calendar: Calendar) -> pa.Array:
    """Nanoseconds since 1970 (int64) of utf8 values; null for what is not a time of this shape."""
    widths = pc.fill_null(pc.binary_length(values), 0).to_numpy(zero_copy_only=False)
    lengths = np.flatnonzero(np.bincount(widths)[1:]) + 1
    result, good = np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    for width in lengths.tolist():
        rows = np.arange(len(values)) if len(lengths) == 1 and widths.all() else np.flatnonzero(widths == width)
        for fields in shape.ways(width):
            if len(rows) == len(values):
                good, result = _read(values.view(pa.binary()), fields, width, calendar)
                rows = np.flatnonzero(~good)
            elif len(rows):
                fine, total = _read(values.take(pa.array(rows)).view(pa.binary()), fields, width, calendar)
                result[rows], good[rows] = total, fine
                rows = rows[~fine]
    return pa.array(result, mask=~good)


def _read(chosen: pa.Array, fields: Sequence[Field], width: int, calendar: Calendar) -> tuple[np.ndarray, np.ndarray]:
    # Neighbours differ in their fractions mostly: the rest is read once a run of equal rests.
    part = next((f for f in fields if f.kind == "fraction"), Field("fraction", 0, 0))
    runs = pc.run_end_encode(pc.binary_replace_slice(chosen, part.at, part.at + part.width, b"0" * part.width))
    fine, total = _read_grid(_grid(runs.values, width), fields, calendar)
    lengths = np.diff(runs.run_ends.to_numpy(), prepend=0)
    digits, fraction = _number(_grid(chosen, width), part)
    result = np.repeat(total * NS, lengths) + fraction * np.int64(10 ** (9 - part.width))
    return np.repeat(fine, lengths) & digits, result


def _grid(values: pa.Array, width: int) -> np.ndarray:
    """Values of one width as bytes[row, column]."""
    start = int(np.frombuffer(values.buffers()[1], np.int32)[values.offset])
    flat = np.frombuffer(values.buffers()[2], np.uint8)[start : start + len(values) * width]
    return flat.reshape(len(values), width)


def _number(grid: np.ndarray, item: Field) -> tuple[np.ndarray, np.ndarray]:
    """Where a field's columns, nine at most, are digits, and the number that they are (int32)."""
    fine, number = np.ones(len(grid), bool), np.zeros(len(grid), np.int32)
    for column in range(item.at, item.at + item.width):
        digit = grid[:, column] - np.uint8(48)  # what stands before "0" wraps round to beyond 9
        fine &= digit <= 9
        number = number * np.int32(10) + digit
    return fine, number


def _name(grid: np.ndarray, at: int, keys: np.ndarray) -> np.ndarray:
    """Which of some names of three letters, of any case, stands there, from 1; 0 for none."""
    letters = grid[:, at : at + 3] | np.uint8(32)
    key = letters @ np.array([1 << 16, 1 << 8, 1], np.int64)
    order = np.argsort(keys)
    place = np.minimum(np.searchsorted(keys[order], key), len(keys) - 1)
    upper = _all((grid[:, at : at + 3] & np.uint8(0xC0)) == 0x40)
    return np.where((keys[order][place] == key) & upper, order[place] + 1, 0)


def _read_grid(grid: np.ndarray, fields: Sequence[Field], calendar: Calendar) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are times, and their whole seconds since 1970."""
    fine = np.ones(len(grid), bool)
    part: dict[str, np.ndarray] = {}
    good: np.ndarray
    number: np.ndarray
    for item in fields:
        columns = grid[:, item.at : item.at + item.width]
        if item.literal or item.kind == "Z":
            good = _all(columns == np.frombuffer(item.kind.encode(), np.uint8))
            number = np.zeros(len(grid), np.int32)
        elif item.kind == "MST":
            good, number = _zone_name(columns)
        elif item.kind == "offset":
            good, number = _offset(grid, item)
        elif item.kind in ("Jan", "Mon"):
            number = _name(grid, item.at, _MONTHS if item.kind == "Jan" else _DAYS)
            good = number > 0
        elif item.kind == "_2":
            digits = np.where(columns == 32, [[48, 0]], columns).astype(np.uint8) - np.uint8(48)
            good, number = _all(digits <= 9), digits @ np.array([10, 1], np.int32)
        else:
            good, number = _number(grid, item)
            if item.kind == "fraction" and item.width:
                good &= np.isin(grid[:, item.at - 1], (44, 46))
        fine &= good
        if not item.literal:
            part[_MEANINGS.get(item.kind, item.kind)] = number.astype(np.int64)
    return _seconds(part, fine, calendar)


def _all(columns: np.ndarray) -> np.ndarray:
    """Where a row is true in all columns."""
    found: np.ndarray = columns[:, 0].copy()
    for number in range(1, columns.shape[1]):  # ten times as fast as reducing rows that are so short
        found &= columns[:, number]
    return found


def _zone_name(columns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a zone's name of three letters, or of four that end with T, stands; and its bytes as a number."""
    good = _all((columns >= 65) & (columns <= 90))
    if columns.shape[1] == 4:
        good &= columns[:, -1] == 84
    return good, columns @ np.array([1 << 24, 1 << 16, 1 << 8, 1], np.int64)[-columns.shape[1] :]


def _offset(grid: np.ndarray, item: Field) -> tuple[np.ndarray, np.ndarray]:
    """Where +07:00, +0700 or +07 stands, and how many seconds it is."""
    sign: np.ndarray = grid[:, item.at]
    good, hours = _number(grid, Field("", item.at + 1, 2))
    good &= (hours <= 24) & np.isin(sign, (43, 45))
    seconds = hours * 3600
    if item.width > 3:
        fine, minutes = _number(grid, Field("", item.at + item.width - 2, 2))
        good &= fine & (minutes < 60)
        seconds += minutes * 60
    if item.width == 6:
        good &= grid[:, item.at + 3] == 58
    return good, np.where(sign == 45, -seconds, seconds)


def _seconds(part: dict[str, np.ndarray], fine: np.ndarray, calendar: Calendar) -> tuple[np.ndarray, np.ndarray]:
    one, zero = np.ones(len(fine), np.int64), np.zeros(len(fine), np.int64)
    month, day = part.get("01", one), part.get("02", one)
    hour, minute, second = part.get("15", zero), part.get("04", zero), part.get("05", zero)
    fine &= (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)
    if "06" in part:
        year = part["06"] + np.where(part["06"] >= 69, 1900, 2000)
    elif "2006" in part:
        year = part["2006"]
    else:
        year = _years(np.where(fine, month * 32 + day, 33), calendar.years)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    in_month = _LENGTHS[np.where(fine, month, 0)] + (leap & (month == 2))
    fine &= (year >= 1678) & (year <= 2261) & (day <= in_month) & (hour < 24) & (minute < 60) & (second < 60)
    # Days since 1970 by Howard Hinnant's days_from_civil, valid for the proleptic Gregorian calendar.
    shifted = year - (month <= 2)
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    seconds = np.where(fine, days * 86400 + hour * 3600 + minute * 60 + second, 0)
    if "zone" in part:
        return fine, seconds - part["zone"]
    if "MST" in part:
        return fine, seconds if calendar.named is None else seconds - _named(seconds, part["MST"], calendar.named)
    return fine, seconds if calendar.utc is None else calendar.utc(seconds)


def _named(seconds: np.ndarray, names: np.ndarray, named: Callable[[int, str], int]) -> np.ndarray:
    """How far ahead of UTC zones are by their names, which is asked once for each day."""
    pairs, places = np.unique(np.stack([names, seconds // 86_400]), axis=1, return_inverse=True)
    ahead = []
    for name, day in pairs.T.tolist():
        text = name.to_bytes(4, "big").lstrip(b"\0").decode("latin-1")
        ahead.append(0 if text == "UTC" else named(day * 86_400 + 43_200, text))
    return np.array(ahead, np.int64)[places]


def _years(days: np.ndarray, years: Callable[[int, int], int]) -> np.ndarray:
    """The years of days, month * 32 + day each; 0 where there is no such day."""
    different, places = np.unique(days, return_inverse=True)
    found = []
    for number in different.tolist():
        try:
            found.append(years(*divmod(number, 32)))
        except ValueError:
            found.append(0)
    return np.array(found, np.int64)[places]
