"""When groups are evaluated: aligned to their interval, spread by their names, never piled up."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.rules.evaluation import Known
from atalaia.rules.model import MINUTE, Group, Placed
from atalaia.rules.running import Running
from atalaia.rules.schedule import Schedule, schedule_of

S = 10**9


def placed(name: str, interval: int = MINUTE) -> Placed:
    return Placed("fake", "ns", Group(name, (), interval))


@settings(deadline=None)
@given(st.integers(1, 10**6), st.integers(0, 10**6), st.integers(0, 10**12))
def test_moments_are_aligned(interval: int, place: int, now: int) -> None:
    schedule = Schedule(interval, place % interval)
    latest, after = schedule.latest(now), schedule.after(now)
    assert latest <= now < after == latest + interval
    assert latest % interval == schedule.place


def test_groups_are_spread_and_stay_where_they_are() -> None:
    places = [schedule_of(placed(f"group {n}")).place for n in range(200)]
    assert places == [schedule_of(placed(f"group {n}")).place for n in range(200)]
    assert all(0 <= place < MINUTE and place % 10**6 == 0 for place in places)
    assert all(any(second * S <= place < (second + 15) * S for place in places) for second in (0, 15, 30, 45))


def test_missed_moments_are_counted_and_only_the_latest_is_evaluated() -> None:
    running = Running.of(placed("g"), 1000 * MINUTE, lambda _: Known())
    due = running.due
    assert running.take(due - 1) is None
    assert running.take(due) == due
    assert running.take(due + MINUTE) is None, "it runs still"
    running.busy = False
    assert running.take(due + 5 * MINUTE + S) == due + 5 * MINUTE
    assert running.missed == 4
    running.busy = False
    assert running.take(due + 6 * MINUTE - 1) is None
    assert running.due == due + 6 * MINUTE


def test_a_clock_that_goes_back_stops_nothing() -> None:
    running = Running.of(placed("g"), 1000 * MINUTE, lambda _: Known())
    earlier = running.due - 600 * MINUTE
    assert running.take(earlier) is None
    assert running.take(earlier + MINUTE) == earlier + MINUTE
    assert running.missed == 0
