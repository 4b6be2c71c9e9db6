"""Tickets and the thread that interrupts what is over."""

from __future__ import annotations

import threading
import time

import pytest

from atalaia.query.ticket import QueryCancelled, QueryTooExpensive, Ticket
from atalaia.query.watch import Watch


def test_a_query_beyond_its_time_is_interrupted_again_and_again() -> None:
    watch, calls, enough = Watch(), [0.0], threading.Event()

    def interrupt() -> None:
        calls.append(time.monotonic())
        if len(calls) > 3:
            enough.set()

    ticket = Ticket(0.05)
    # One with a later deadline first: the thread must not sleep until that one.
    with watch.watching(Ticket(600), lambda: pytest.fail("too early")), watch.watching(ticket, interrupt):
        assert enough.wait(10)
    assert calls[1] >= ticket.deadline
    count = len(calls)
    watch.close()
    assert len(calls) == count


def test_a_cancelled_query_is_interrupted_at_once() -> None:
    watch, interrupted = Watch(), threading.Event()
    ticket = Ticket(600)
    with watch.watching(ticket, interrupted.set):
        assert not interrupted.is_set()
        ticket.cancel()
        assert interrupted.wait(10)
    interrupted.clear()
    with watch.watching(ticket, interrupted.set):  # cancelled before
        assert interrupted.wait(10)
    watch.close()


def test_time_in_the_queue_does_not_count() -> None:
    ticket = Ticket(0.05)
    ticket.pause()
    assert threading.Event().wait(0.1) is False
    assert not ticket.over
    ticket.begin(3)
    assert not ticket.over
    assert ticket.place == 3
    assert 0 < ticket.deadline - time.monotonic() <= 0.05
    assert threading.Event().wait(0.1) is False
    with pytest.raises(QueryTooExpensive, match=r"more than 0\.05 s"):
        ticket.check()
    ticket.cancel()
    with pytest.raises(QueryCancelled):
        ticket.check()
