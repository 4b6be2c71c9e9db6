"""Times in all spellings, and numbers as Go prints them."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.api.times import bounds, default_step, parse_step, show_float, show_moment
from atalaia.environment.errors import InputError
from atalaia.wire.times import parse_time

S = 10**9
MAY = 1_714_557_296 * S  # 2024-05-01T09:54:56Z


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("0", 0), ("1714557296", MAY), ("-5", -5 * S), ("9000000000", 9_000_000_000 * S), ("10000000000", 10**10),
        ("1714557296123456789", MAY + 123_456_789), ("-17145572961", -17_145_572_961),
        ("1714557296.5", MAY + S // 2), ("1714557296.123456789", MAY + 123_456_789), ("1.714557296e9", MAY),
        (".5", S // 2), ("1714557296.", MAY), ("+5", 5 * S),
        ("2024-05-01T09:54:56Z", MAY), ("2024-05-01T11:54:56+02:00", MAY), ("2024-05-01T09:54:56.5Z", MAY + S // 2),
        ("2024-05-01T09:54:56.123456789Z", MAY + 123_456_789), ("2024-05-01T05:24:56.000000001-04:30", MAY + 1),
        ("1969-12-31T23:59:59.9Z", -100_000_000), ("2024-05-01 09:54:56+00:00", MAY),
    ],
)  # fmt: skip
def test_times(text: str, found: int) -> None:
    assert parse_time(text, "start") == found


@pytest.mark.parametrize(
    "text",
    [
        "x", "", " 5", "5 ", "1e", "--5", "1_0", "0x10", "NaN", "inf", "٣", "2024-05-01", "2024-05-01T09:54:56",
        "2024-13-01T00:00:00Z", "now", "1e99", "1e999999999", "9" * 30, "9999999999", "9" * 5000,
        "-9223372036854775809", "5s", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "1e-999999999",
        "2024-05-01T09:54:56Zjunk",
    ],
)  # fmt: skip
def test_what_is_no_time_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"^start='.{0,100}' is not "):
        parse_time(text, "start")


@given(st.integers(11**10, 2**63 - 1), st.booleans())
def test_nanoseconds_are_exact(ns: int, negative: bool) -> None:
    assert parse_time(f"{'-' * negative}{ns}", "t") == (-ns if negative else ns)


@given(st.integers(0, 9_223_372_035), st.integers(0, S - 1))
def test_seconds_with_a_fraction_are_exact(seconds: int, ns: int) -> None:
    assert parse_time(f"{seconds}.{ns:09d}", "t") == seconds * S + ns


@pytest.mark.parametrize(
    ("text", "found"),
    [("30s", 30 * S), ("1", S), ("0.5", S // 2), ("1.5e1", 15 * S), ("1h30m", 5400 * S), ("1d", 86400 * S)],
)
def test_steps(text: str, found: int) -> None:
    assert parse_step(text, "step") == found


@pytest.mark.parametrize(
    "text", ["0", "-1", "0s", "-5m", "x", "", "1e-20", "1e99", "9" * 50, "9999999999999y", "1e999999"]
)
def test_what_is_no_step_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"^step='"):
        parse_step(text, "step")


def test_bounds() -> None:
    assert bounds({"start": "1", "end": "2"}) == (S, 2 * S)
    assert bounds({"end": "7200"}) == (3600 * S, 7200 * S)
    assert bounds({"end": "7200", "since": "1m"}) == (7140 * S, 7200 * S)
    before = time.time_ns()
    start, end = bounds({"start": "", "end": ""})
    assert before <= end <= time.time_ns()
    assert end - start == 3600 * S
    start, end = bounds({"end": "4102444800", "since": "1m"})  # in the year 2100: since counts from now
    assert start <= time.time_ns() - 60 * S < start + 10 * S
    assert end == 4_102_444_800 * S
    with pytest.raises(InputError, match="end timestamp must not be before start time"):
        bounds({"start": "2", "end": "1"})


def test_the_default_step_gives_about_250_points() -> None:
    assert default_step(0, 3600 * S) == 14 * S
    assert default_step(0, 0) == default_step(0, 499 * S) == S


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "-0"), (1.0, "1"), (-1.0, "-1"), (0.1, "0.1"), (1e21, "1000000000000000000000"),
        (1.5e-7, "0.00000015"), (1 / 3, "0.3333333333333333"), (123456789.125, "123456789.125"),
        (1e15, "1000000000000000"),
        (float("nan"), "NaN"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"), (2.0**53, "9007199254740992"),
    ],
)  # fmt: skip
def test_floats(value: float, text: str) -> None:
    assert show_float(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_a_float_reads_back_and_has_no_exponent(value: float) -> None:
    text = show_float(value)
    assert float(text) == value
    assert set(text) <= set("-0123456789.")
    assert Decimal(text) == Decimal(repr(value))


@pytest.mark.parametrize(("ns", "shown"), [(5 * S, 5), (5 * S + 1_500_000, 5.001), (-S, -1), (5 * S + 999, 5)])
def test_moments(ns: int, shown: float) -> None:
    assert show_moment(ns) == shown
