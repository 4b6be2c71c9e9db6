import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql import literals

settings_ = settings(deadline=None, database=None, max_examples=200)


@given(st.text(st.characters(codec="utf-8")))
@settings_
def test_quoted_text_reads_back(text):
    written = literals.quote(text)
    assert written.isprintable()
    assert literals.unquote(written) == text


@given(st.integers(-(2**63) + 1, 2**63 - 1))
@settings_
def test_duration_reads_back(ns):
    assert literals.parse_duration(literals.format_duration(ns)) == ns


@given(st.integers(0, 2**64 - 1) | st.builds(lambda n, e: n * 10**e, st.integers(0, 9999), st.integers(0, 15)))
@settings_
def test_size_reads_back(count):
    assert literals.parse_bytes(literals.format_bytes(count)) == count


@given(st.floats(0, allow_nan=False, allow_infinity=False))
@settings_
def test_number_reads_back(value):
    assert literals.parse_number(literals.format_number(value)) == value


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("0s", 0),
        ("1.5h", 5_400 * 10**9),
        (".5s", 5 * 10**8),
        ("1y", 31_536_000 * 10**9),
        ("1w1d", 8 * 86_400 * 10**9),
        ("-1m30s", -90 * 10**9),
        ("1µs", 1_000),
        ("1μs", 1_000),
        ("0.1ns", 0),
        ("0.333333333333333333333333s", 333_333_333),
    ],
)
def test_duration(text, ns):
    assert literals.parse_duration(text) == ns


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0s"),
        (90 * 60 * 10**9, "1h30m"),
        (86_400 * 10**9, "1d"),
        (36 * 3_600 * 10**9, "1d12h"),
        (14 * 86_400 * 10**9, "2w"),
        (365 * 86_400 * 10**9, "1y"),
        (1_500_000, "1ms500us"),
        (-(10**9), "-1s"),
    ],
)
def test_written_duration(ns, text):
    assert literals.format_duration(ns) == text


@pytest.mark.parametrize("text", ["", "-", "5", "s", "5m ", "1h-5m", "9999999999999999999999y", "293y"])
def test_not_a_duration(text):
    with pytest.raises(ValueError, match=r"duration"):
        literals.parse_duration(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("5B", 5), ("1kB", 1000), ("1KB", 1000), ("1KiB", 1024), ("1.5MiB", 1_572_864), ("2K", 2000)],
)
def test_size(text, count):
    assert literals.parse_bytes(text) == count
