from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.environment.units import NANOSECOND, parse_duration, parse_size, show_size

S = 10**9


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1ns", 1),
        ("1us", 1000),
        ("1µs", 1000),
        ("5ms", 5_000_000),
        ("1.5s", 1_500_000_000),
        ("1h30m", 5400 * S),
        ("30d", 30 * 86400 * S),
        ("1w", 7 * 86400 * S),
        ("1y", 365 * 86400 * S),
        ("-2m", -120 * S),
        ("1m1ms", 60 * S + 10**6),
    ],
)
def test_durations(text: str, expected: int) -> None:
    assert parse_duration(text) == expected


@pytest.mark.parametrize("text", ["", "5", "s", "1 s", "1h ", "1.h", "--1s", "1month", "1S", "1h30", "٣s"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration such as"):
        parse_duration(text)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(list(NANOSECOND))), min_size=1, max_size=4))
def test_durations_are_the_sum_of_their_parts(parts: list[tuple[int, str]]) -> None:
    assert parse_duration("".join(f"{n}{u}" for n, u in parts)) == sum(n * NANOSECOND[u] for n, u in parts)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("17", 17),
        ("17B", 17),
        ("1K", 1000),
        ("1kb", 1000),
        ("1KiB", 1024),
        ("1.5MiB", 1_572_864),
        ("10 GiB", 10 << 30),
        (" 2TB ", 2 * 10**12),
        ("256MB", 256_000_000),
    ],
)
def test_sizes(text: str, expected: int) -> None:
    assert parse_size(text) == expected


@pytest.mark.parametrize("text", ["", "B", "-1", "1i", "1iB", "1XB", "1e3", "1 0", "1.", "٣"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size such as"):
        parse_size(text)


def test_sizes_for_people() -> None:
    shown = [show_size(n) for n in (0, 999, 1000, 1_500_000, 2 * 10**9, 3 * 10**12, 10**16)]
    assert shown == ["0 B", "999 B", "1.0 kB", "1.5 MB", "2.0 GB", "3.0 TB", "10000.0 TB"]
