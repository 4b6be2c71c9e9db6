"""The queue before a receiver: order, newest words, bounds, and what goes wrong."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from atalaia.rules.outbox import Outbox, Refused, Unreachable
from atalaia.rules.plan import Patience


class Sink:
    """Takes batches; the next ones raise what `faults` holds; while `open` is not set nothing is taken."""

    def __init__(self) -> None:
        self.got: list[list[int]] = []
        self.faults: list[Exception] = []
        self.open, self.busy, self._came = threading.Event(), threading.Event(), threading.Condition()
        self.open.set()

    def __call__(self, items: list[int]) -> None:
        self.busy.set()
        assert self.open.wait(10)
        with self._came:
            self.got.append(items)
            self._came.notify_all()
            if self.faults:
                raise self.faults.pop(0)

    def wait(self, count: int) -> list[list[int]]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.got) >= count, 10), self.got
            return list(self.got)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def outbox(sink: Sink) -> Iterator[Outbox[int]]:
    made = Outbox[int]("test", sink, 5, 3, Patience(0.001, 0.004, 1.0))
    yield made
    made.stop()
    assert not made._thread.is_alive()


def test_items_go_in_order_in_batches(outbox: Outbox[int], sink: Sink) -> None:
    outbox.put((n, n) for n in range(5))
    assert sink.wait(2) == [[0, 1, 2], [3, 4]]
    outbox.stop()
    assert (outbox.lost, outbox.error, outbox._waiting) == (0, None, {})


def test_what_comes_while_it_is_busy_is_bounded_and_the_newest_word_counts(outbox: Outbox[int], sink: Sink) -> None:
    sink.open.clear()
    outbox.put([("a", 1)])
    assert sink.busy.wait(10)
    outbox.put([("b", 2), ("c", 3), ("b", 4)])
    outbox.put([("a", 5)])  # newer than what is on its way
    outbox.put([("d", 6), ("e", 7), ("f", 8)])  # one too many
    assert outbox.lost == 1
    sink.open.set()
    # "a", the oldest, was dropped once it was on its way; nothing of the others is lost.
    assert sink.wait(3) == [[1], [4, 3, 6], [7, 8]]


def test_what_cannot_be_delivered_is_tried_again_with_what_is_newer(
    outbox: Outbox[int], sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    sink.faults = [Unreachable("down"), Unreachable("down")]
    outbox.put([("a", 1)])
    assert sink.wait(3) == [[1], [1], [1]]
    outbox.put([("a", 2)])
    assert sink.wait(4)[3] == [2]
    assert caplog.text.count("event=receiver_unreachable") == 1


@pytest.mark.parametrize("fault", [Refused("no"), ZeroDivisionError("oh")])
def test_what_is_refused_is_lost_and_the_rest_goes_on(outbox: Outbox[int], sink: Sink, fault: Exception) -> None:
    sink.faults = [fault]
    outbox.put([(1, 1)])
    sink.wait(1)
    outbox.put([(2, 2)])
    assert sink.wait(2)[-1][-1] == 2
    outbox.stop()
    assert outbox.lost == 1


def test_the_end_waits_for_what_can_be_delivered_and_for_nothing_else(sink: Sink) -> None:
    outbox = Outbox[int]("test", sink, 5, 1, Patience(60.0, 60.0, 5.0))
    sink.open.clear()
    outbox.put((n, n) for n in range(3))
    assert sink.busy.wait(10)
    outbox.begin_to_stop()
    sink.open.set()
    outbox.stop()
    assert sink.got == [[0], [1], [2]]
    down = Outbox[int]("test", sink, 5, 1, Patience(60.0, 60.0, 5.0))
    sink.faults = [Unreachable("down")]
    down.put([(1, 1)])
    sink.wait(4)
    down.stop()  # it is in the minute before the next attempt
    assert not down._thread.is_alive()
