"""Work that is shared out among threads, by properties."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from atalaia.backup.physical.shares import Shares


@given(st.integers(0, 60), st.integers(1, 6), st.data())
def test_each_number_is_taken_once_whoever_asks_when(count: int, workers: int, data: st.DataObject) -> None:
    shares = Shares(count, workers)
    taken: list[int] = []
    for worker in data.draw(st.lists(st.integers(0, workers - 1), max_size=80)):
        number = shares.take(worker)
        assert (number is None) == (len(taken) == count)
        if number is not None:
            taken.append(number)
    last = data.draw(st.integers(0, workers - 1))
    while (number := shares.take(last)) is not None:
        taken.append(number)
    assert sorted(taken) == list(range(count))


def test_a_worker_has_neighbours_and_then_half_of_what_another_has_left() -> None:
    shares = Shares(12, 2)
    assert [shares.take(0) for _ in range(6)] == [0, 1, 2, 3, 4, 5]
    assert [shares.take(1), shares.take(0), shares.take(1)] == [6, 9, 7]
    assert [shares.take(0) for _ in range(3)] == [10, 11, 8]
    assert shares.take(1) is None


def test_nothing_is_taken_after_a_stop() -> None:
    shares = Shares(10, 2)
    assert shares.take(1) == 5
    shares.stop()
    assert [shares.take(0), shares.take(1)] == [None, None]
