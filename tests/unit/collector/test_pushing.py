"""A sink that is away is asked again: after a growing time, or the one that it asks for; until it is stopped."""

from __future__ import annotations

import threading

import pytest

from atalaia.collector import pushing
from atalaia.collector.outputs.sink import Unreachable
from atalaia.collector.plan import Output
from atalaia.collector.pushing import patiently

OUTPUT = Output("http://h/push", min_backoff=1.0, max_backoff=8.0)


class Clock(threading.Event):
    """An event that is waited for without waiting; `stops_after`: how many waits until it is set."""

    def __init__(self, stops_after: int = 1000) -> None:
        super().__init__()
        self.waits: list[float] = []
        self._left = stops_after

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        self._left -= 1
        if not self._left:
            self.set()
        return self.is_set()


def failing(errors: list[Unreachable]) -> str:
    if errors:
        raise errors.pop(0)
    return "taken"


def test_the_time_between_attempts_doubles_up_to_the_longest() -> None:
    clock = Clock()
    errors = [Unreachable("away") for _ in range(8)]
    assert patiently(lambda: failing(errors), OUTPUT, clock) == "taken"
    for wait, most in zip(clock.waits, [1, 2, 4, 8, 8, 8, 8, 8], strict=True):
        assert most / 2 <= wait <= most
    assert len(set(clock.waits)) == 8, "not all collectors come back in the same moment"


def test_a_server_may_ask_for_a_longer_time() -> None:
    clock = Clock()
    errors = [Unreachable("busy", 30.0), Unreachable("busy", 0.1)]
    assert patiently(lambda: failing(errors), OUTPUT, clock) == "taken"
    assert clock.waits[0] == 30.0
    assert 1.0 <= clock.waits[1] <= 2.0


def test_a_stop_ends_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(pushing, "_NEWS", -1.0)
    clock = Clock(3)
    assert patiently(lambda: failing([Unreachable("away")]), OUTPUT, clock) is None
    assert len(clock.waits) == 3
    assert [record.getMessage() for record in caplog.records] == ["event=sink_unreachable reason='away'"]
