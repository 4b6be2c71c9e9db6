"""Times of a fixed width ("2006-01-02 15:04:05.000 MST"), read digit by digit across the rows with NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .unixtime import NS


@dataclass(frozen=True, slots=True)
class Field:
    """`width` columns from `at` on. `kind` is a part of Go's reference time, "fraction", or (width 0) one character."""

    kind: str
    at: int
    width: int


def parse(values: pa.Array, fields: Sequence[Field], width: int) -> pa.Array:
    """Nanoseconds since 1970 (int64) of utf8 values; null for what is not a time of these fields."""
    good = pc.fill_null(pc.equal(pc.binary_length(values), width), False).to_numpy(zero_copy_only=False)
    chosen = (values if good.all() else values.filter(pa.array(good))).view(pa.binary())
    result = np.zeros(len(values), np.int64)
    if len(chosen):
        # Neighbours differ in their fractions mostly: the rest is read once a run of equal rests.
        part = next((f for f in fields if f.kind == "fraction"), Field("fraction", 0, 0))
        runs = pc.run_end_encode(pc.binary_replace_slice(chosen, part.at, part.at + part.width, b"0" * part.width))
        fine, total = _read_grid(_grid(runs.values, width), fields)
        lengths = np.diff(runs.run_ends.to_numpy(), prepend=0)
        digits, fraction = _number(_grid(chosen, width), part)
        result[good] = np.repeat(total, lengths) + fraction * np.int64(10 ** (9 - part.width))
        good[good] = np.repeat(fine, lengths) & digits
    return pa.array(result, mask=~good)


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


def _read_grid(grid: np.ndarray, fields: Sequence[Field]) -> tuple[np.ndarray, np.ndarray]:
    """Which rows are times, and their whole seconds in ns since 1970."""
    fine = np.ones(len(grid), bool)
    part: dict[str, np.ndarray] = {}
    for item in fields:
        if item.width == 0:
            fine &= grid[:, item.at] == ord(item.kind)
        elif item.kind == "MST":
            # Only UTC is certain without a table of zones; the rest goes the slow way.
            fine &= (grid[:, item.at : item.at + 3] == np.frombuffer(b"UTC", np.uint8)).all(axis=1)
        else:
            digits, number = _number(grid, item)
            fine &= digits
            part[item.kind] = number.astype(np.int64)
            if item.kind == "fraction":
                fine &= np.isin(grid[:, item.at - 1], (44, 46))
    one, zero = np.ones(len(grid), np.int64), np.zeros(len(grid), np.int64)
    year, month, day = part["2006"], part.get("01", one), part.get("02", one)
    hour, minute, second = part.get("15", zero), part.get("04", zero), part.get("05", zero)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    lengths = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
    fine &= (month >= 1) & (month <= 12) & (year >= 1678) & (year <= 2261)
    in_month = lengths[np.where(fine, month, 0)] + (leap & (month == 2))
    fine &= (day >= 1) & (day <= in_month) & (hour < 24) & (minute < 60) & (second < 60)
    # Days since 1970 by Howard Hinnant's days_from_civil, valid for the proleptic Gregorian calendar.
    shifted = year - (month <= 2)
    era = shifted // 400
    of_era = shifted - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    days = era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
    seconds = days * 86400 + hour * 3600 + minute * 60 + second
    return fine, np.where(fine, seconds, 0) * NS
