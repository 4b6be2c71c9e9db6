"""The queue: who comes next, who is told to go away, and that no place is ever lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.query.queue import Queue, QueueFull, WaitedTooLong
from atalaia.query.ticket import QueryCancelled, Ticket

LONG = 600.0


def run(scenario: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        async with asyncio.timeout(20):
            await scenario()

    asyncio.run(bounded())


class Place:
    """Somebody who wants a place; `enter` lets him come, `leave` go."""

    def __init__(self, queue: Queue, tenant: str, seconds: float = LONG) -> None:
        self.ticket = Ticket(LONG)
        self.number: int | None = None
        self._end = asyncio.Event()
        self.task = asyncio.create_task(self._stay(queue, tenant, seconds))

    async def _stay(self, queue: Queue, tenant: str, seconds: float) -> None:
        async with queue.place(tenant, self.ticket, seconds) as self.number:
            await self._end.wait()

    async def leave(self) -> None:
        self._end.set()
        await self.task
        await settled()


async def settled() -> None:
    """All that is due in the event loop is done."""
    for _ in range(5):
        await asyncio.sleep(0)


async def came(queue: Queue, *tenants: str) -> list[Place]:
    found = []
    for tenant in tenants:
        found.append(Place(queue, tenant))
        await settled()
    return found


def inside(places: list[Place]) -> list[bool]:
    return [place.number is not None for place in places]


def test_the_lowest_free_place_is_given() -> None:
    async def scenario() -> None:
        queue = Queue([3, 1, 2], 10)
        a, b, c = await came(queue, "t", "t", "t")
        assert (a.number, b.number, c.number) == (1, 2, 3)
        await b.leave()
        (d,) = await came(queue, "t")
        assert d.number == 2
        for place in (a, c, d):
            await place.leave()
        assert (queue.running, queue.waiting) == (0, 0)

    run(scenario)


def test_tenants_take_turns_and_each_is_served_in_its_order() -> None:
    async def scenario() -> None:
        queue = Queue([1], 10)
        (first,) = await came(queue, "x")
        waiting = await came(queue, "a", "a", "a", "b", "b", "c")
        order = []
        now = first
        for _ in waiting:
            await now.leave()
            (now,) = [place for place in waiting if place.number is not None and place not in order]
            order.append(now)
        await now.leave()
        a1, a2, a3, b1, b2, c1 = waiting
        assert order == [a1, b1, c1, a2, b2, a3]

    run(scenario)


def test_who_has_fewer_queries_running_comes_first() -> None:
    async def scenario() -> None:
        queue = Queue([1, 2], 10)
        heavy = await came(queue, "heavy", "heavy", "heavy", "heavy")
        (light,) = await came(queue, "light")
        assert inside([*heavy, light]) == [True, True, False, False, False]
        await heavy[0].leave()
        assert inside([heavy[2], light]) == [False, True]
        for place in (heavy[1], heavy[2], light, heavy[3]):
            await place.leave()

    run(scenario)


def test_the_spare_place_is_for_those_who_have_none() -> None:
    async def scenario() -> None:
        queue = Queue([1, 2, 3], 10, spare=True)
        heavy = await came(queue, *["heavy"] * 4)
        assert inside(heavy) == [True, True, False, False]
        (light,) = await came(queue, "light")
        assert light.number == 3
        (another,) = await came(queue, "light")
        assert another.number is None
        for place in (*heavy, light, another):
            await place.leave()
        lonely = Queue([1], 10, spare=True)
        (only,) = await came(lonely, "t")
        assert only.number == 1
        await only.leave()

    run(scenario)


def test_beyond_the_bound_of_a_tenant_it_alone_is_refused() -> None:
    async def scenario() -> None:
        queue = Queue([1], 2)
        full = await came(queue, "a", "a", "a", "a")
        with pytest.raises(QueueFull, match="2 queries of tenant 'a' wait already"):
            await full[3].task
        (other,) = await came(queue, "b")
        assert queue.waiting == 3
        for place in (*full[:2], other, full[2]):
            await place.leave()

    run(scenario)


def test_who_waits_too_long_is_told() -> None:
    async def scenario() -> None:
        queue = Queue([1], 10)
        (first,) = await came(queue, "a")
        late = Place(queue, "a", 0.01)
        with pytest.raises(WaitedTooLong, match=r"for 0\.01 s"):
            await late.task
        assert queue.waiting == 0
        await first.leave()
        assert queue.running == 0

    run(scenario)


def test_who_is_cancelled_leaves_the_queue_at_once() -> None:
    async def scenario() -> None:
        queue = Queue([1], 10)
        first, second, third = await came(queue, "a", "a", "a")
        await asyncio.get_running_loop().run_in_executor(None, second.ticket.cancel)
        with pytest.raises(QueryCancelled):
            await second.task
        assert queue.waiting == 1
        await first.leave()
        assert third.number == 1
        await third.leave()
        cancelled = Ticket(LONG)
        cancelled.cancel()
        with pytest.raises(QueryCancelled):
            async with queue.place("a", cancelled, LONG):
                pass
        assert (queue.running, queue.waiting) == (0, 0)

    run(scenario)


STEPS = st.lists(st.tuples(st.sampled_from(["come", "leave", "cancel", "end"]), st.integers(0, 7)), max_size=60)


@settings(deadline=None, max_examples=150)
@given(STEPS, st.integers(1, 4), st.booleans())
def test_whatever_happens_no_place_is_lost_or_given_twice(
    steps: list[tuple[str, int]], places: int, spare: bool
) -> None:
    async def scenario() -> None:
        queue = Queue(range(places), 100, spare)
        present: list[Place] = []
        for what, number in steps:
            if what == "come":
                present.append(Place(queue, "abc"[number % 3]))
            elif present:
                chosen = present[number % len(present)]
                if what == "leave" and chosen.number is not None:
                    chosen._end.set()
                elif what == "cancel":
                    chosen.ticket.cancel()
                else:
                    chosen.task.cancel()
            if number % 2:
                await settled()
                held = [p.number for p in present if p.number is not None and not p.task.done()]
                assert len(held) == len(set(held)) == queue.running
                # With a free place that is not the spare one nobody waits.
                free = places - queue.running
                assert not queue.waiting or free <= (1 if spare and places > 1 else 0)
        for place in present:
            place._end.set()
        await asyncio.gather(*(place.task for place in present), return_exceptions=True)
        await settled()
        assert (queue.running, queue.waiting) == (0, 0)
        everybody = await came(queue, *(str(number) for number in range(places)))
        assert sorted(place.number for place in everybody if place.number is not None) == list(range(places))
        for place in everybody:
            await place.leave()

    run(scenario)
