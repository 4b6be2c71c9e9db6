"""What waits for a tail's client: bounded, in order, nothing left out untold."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atalaia.api import outbox
from atalaia.api.outbox import Delay, Outbox
from atalaia.logql.entry import Entry
from atalaia.query.tail import Arrived

LABELS = {"a": "b"}


def entry(ts: int, line: str = "") -> Entry:
    return Entry(ts, line or str(ts), LABELS, {})


@given(st.lists(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), max_size=6), max_size=8), st.integers(1, 40))
def test_every_entry_is_sent_or_told(puts: list[list[tuple[int, int]]], most: int) -> None:
    """Whatever its bounds, what goes in comes out once, as an entry or as dropped, entries in their order."""

    async def run() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(outbox, "_MOST_BYTES", most)
            patch.setattr(outbox, "_FRAME_ENTRIES", 2)
            box, told, lost, given_ = Outbox(), [], [], []
            number = 0
            for put in puts:
                some = []
                for _, size in put:
                    number += 1
                    some.append(entry(number, "x" * size))
                given_ += [one.ts for one in some]
                box.put(some)
                entries, dropped = box.take()
                told += [one.ts for one in entries]
                lost += [one.ts for one in dropped]
            while box.filled.is_set():
                entries, dropped = box.take()
                assert len(entries) <= 2
                told += [one.ts for one in entries]
                lost += [one.ts for one in dropped]
            assert told == sorted(told)
            assert sorted(told + lost) == given_
            assert box.lost == len(lost)

    asyncio.run(run())


def test_of_many_dropped_the_first_are_named() -> None:
    async def run() -> tuple[int, int]:
        box = Outbox()
        box.put([entry(i) for i in range(15_000)])
        named = 0
        while box.filled.is_set():
            named += len(box.take()[1])
        return named, box.lost

    assert asyncio.run(run()) == (1000, 5000)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_delay_keeps_order() -> None:
    clock = Clock()
    delay = Delay(5, clock)
    assert delay.wait() is None
    delay.put([Arrived(entry(20), 1)])
    assert (delay.due(), delay.wait()) == ([], 5)
    clock.now = 3
    delay.put([Arrived(entry(10), 2), Arrived(entry(30), 3), Arrived(entry(20), 4)])
    clock.now = 5
    # The late one is told with what it belongs before; of one time the first to come is first.
    assert [one.ts for one in delay.due()] == [10, 20]
    assert (delay.due(), delay.wait()) == ([], 3)
    clock.now = 8
    assert [one.ts for one in delay.due()] == [20, 30]
    assert delay.wait() is None


def test_delay_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "_MOST_HELD", 3)
    delay = Delay(5, Clock())
    delay.put([Arrived(entry(i), i) for i in range(5)])
    assert [one.ts for one in delay.due()] == [0, 1]


def test_without_delay_all_is_due() -> None:
    delay = Delay(0, Clock())
    delay.put([Arrived(entry(2), 1), Arrived(entry(1), 2)])
    assert [one.ts for one in delay.due()] == [1, 2]
