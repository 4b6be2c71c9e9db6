"""Label values as Go reads them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.logql import values


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1", 1.0), ("-1.5", -1.5), ("+2", 2.0), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("1E-2", 0.01),
        ("0x1p3", 8.0), ("-0X1.8P1", -3.0), ("Inf", math.inf), ("-infinity", -math.inf), ("+iNf", math.inf),
        ("1e999", None), ("0x1p9999", None), ("", None), (" 1", None), ("1 ", None), ("1_000", None), ("1,5", None),
        ("0x10", None), ("abc", None), ("1e", None), (".", None), ("infin", None), ("+nan", None), ("٣", None),
    ],
)  # fmt: skip
def test_numbers(text: str, found: float | None) -> None:
    assert values.number(text) == found


def test_nan_is_unequal_to_everything() -> None:
    assert [values.compare("NaN", "number", op, 1.0) for op in ("==", "!=", ">", "<")] == [0, 1, 0, 0]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_written_float_reads_back(value: float) -> None:
    assert values.number(repr(value)) == value


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1s", 10**9), ("1h30m", 5400 * 10**9), ("1.5ms", 1_500_000), ("-2us", -2000), ("+3µs", 3000), ("3μs", 3000),
        ("0", 0), ("+0", 0), ("-0", 0), ("0s", 0), (".5s", 5 * 10**8), ("1.s", 10**9), ("1ns1h", 3600 * 10**9 + 1),
        ("9223372036854775807ns", 2**63 - 1), ("-9223372036854775808ns", -(2**63)), ("9223372036854775808ns", None),
        ("", None), ("-", None), ("1", None), ("1d", None), ("1w", None), ("s", None), (".s", None), ("1 s", None),
        ("1s ", None), ("1e3s", None), ("one", None), ("300y", None), ("1.2.3s", None),
    ],
)  # fmt: skip
def test_durations(text: str, found: int | None) -> None:
    assert values.duration(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("1", 1), ("1B", 1), ("1b", 1), ("2kB", 2000), ("2KB", 2000), ("2k", 2000), ("2KiB", 2048), ("2ki", 2048),
        ("1.5MB", 1_500_000), ("1 MiB", 1 << 20), ("3 gb", 3 * 10**9), ("1TiB", 1 << 40), ("1PB", 10**15),
        ("1EiB", 1 << 60), ("1,000", 1000), ("1.9", 1), ("16EiB", None), ("", None), ("B", None), ("1x", None),
        ("-1", None), ("1..5kB", None), (".", None), ("1 k B", None), ("1kBs", None),
    ],
)  # fmt: skip
def test_sizes(text: str, found: int | None) -> None:
    assert values.size(text) == found


@pytest.mark.parametrize(
    ("text", "kind", "reason"),
    [
        ("90", "duration", 'missing unit in duration "90"'),
        ("1d", "duration", 'unknown unit "d" in duration "1d"'),
        ("1h5", "duration", 'missing unit in duration "1h5"'),
        ("", "duration", 'invalid duration ""'),
        ("-x", "duration", 'invalid duration "-x"'),
        ("x", "number", 'parsing "x": invalid syntax'),
        ("1e999", "number", 'parsing "1e999": value out of range'),
        ("12 Parsecs", "size", "unhandled size name: parsecs"),
        ("big", "size", 'parsing "": invalid syntax'),
        ("1.2.3kB", "size", 'parsing "1.2.3": invalid syntax'),
    ],
)
def test_complaints(text: str, kind: str, reason: str) -> None:
    assert values.complaint(text, kind).endswith(reason)
