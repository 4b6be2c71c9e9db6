"""How fast a tenant may push."""

from __future__ import annotations

import pytest

from atalaia.api.rate import PushRate, TooFast


def test_a_bucket_of_ten_seconds_that_one_push_may_overdraw() -> None:
    now = [1000.0]
    rate = PushRate(100, lambda: now[0])
    rate.check("a")
    rate.spend("a", 5000)
    with pytest.raises(TooFast) as caught:
        rate.check("a")
    assert caught.value.seconds == 40
    rate.check("b")
    now[0] += 39.9
    with pytest.raises(TooFast):
        rate.check("a")
    now[0] += 0.2
    rate.check("a")
    now[0] += 1e6
    rate.spend("a", 999)
    rate.check("a")
    rate.spend("a", 1)
    with pytest.raises(TooFast):
        rate.check("a")


def test_without_a_rate_there_is_no_bound() -> None:
    rate = PushRate()
    rate.spend("a", 1 << 60)
    rate.check("a")


def test_tenants_that_owe_nothing_are_forgotten() -> None:
    now = [0.0]
    rate = PushRate(100, lambda: now[0])
    for number in range(30_000):
        now[0] += 1
        rate.spend(str(number), 1)
    assert len(rate._buckets) <= 10_001
