import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.diagnosis.times import time_pattern

from .fakelogs import SECOND


def at(*seconds):
    return [round(s * SECOND) for s in seconds]


def test_one_event_is_single():
    assert time_pattern(at(3)).shape == "single"


@pytest.mark.parametrize("period", [1, 5, 10, 60, 3600])
@pytest.mark.parametrize("jitter", [0, 0.01, 0.04])
def test_a_fixed_period_is_found_through_jitter(period, jitter):
    chance = random.Random(7)
    times = at(*(n * period + chance.uniform(-jitter, jitter) * period for n in range(30)))
    found = time_pattern(times)
    assert found.shape == "periodic"
    assert found.period == pytest.approx(period, rel=0.02)
    assert found.jitter <= 2 * jitter * period + 1e-9


def test_a_missing_beat_and_a_double_beat_do_not_hide_the_period():
    times = at(0, 5, 10, 20, 25, 25.05, 30, 35, 50)
    found = time_pattern(times)
    assert (found.shape, found.count) == ("periodic", 9)
    assert found.period == pytest.approx(5, rel=0.01)


def test_many_in_a_short_time_are_a_burst():
    found = time_pattern(at(0, 0.1, 0.13, 0.4, 0.42, 1.9, 2.0))
    assert found.shape == "burst"
    assert found.span == pytest.approx(2)


@pytest.mark.parametrize("seconds", [(0, 10), (0, 10, 20), (0, 3, 40, 41, 300), (0, 100, 150, 900, 905, 2000, 9000)])
def test_what_has_no_pattern_is_irregular(seconds):
    assert time_pattern(at(*seconds)).shape == "irregular"


def test_random_arrivals_are_not_called_periodic():
    chance = random.Random(3)
    now, times = 0.0, []
    for _ in range(200):
        now += chance.expovariate(1 / 30)
        times.append(now)
    assert time_pattern(at(*times)).shape == "irregular"


@given(st.lists(st.integers(0, 2**62), min_size=1))
def test_any_times_have_a_pattern_and_order_does_not_matter(times):
    assert time_pattern(times) == time_pattern(list(reversed(times)))
    assert time_pattern(times).count == len(times)
