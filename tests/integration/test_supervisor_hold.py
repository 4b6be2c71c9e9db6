"""A service is held stopped for as long as whoever asked stays connected."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from atalaia.runtime.process import Process
from atalaia.supervisor.keeper import Keeper, State


@dataclass
class Sleeper:
    """A service that is a sleeping process; `fails` makes it end at once."""

    name: str = "sleeper"
    kind: str = "test"
    address: str = "-"
    directory: Path = Path("/")
    stop_steps: Sequence[tuple[int, float]] = ((signal.SIGTERM, 10.0),)
    fails: bool = False
    started: list[Process] = field(default_factory=list)
    children: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def prepare(self) -> None:
        """Nothing."""

    def adopt(self) -> Process | None:
        return next((p for p in self.started if p.alive()), None)

    def start(self) -> Process:
        child = subprocess.Popen(["sleep", "0" if self.fails else "600"])
        self.children.append(child)
        process = Process.of(child.pid)
        assert process
        self.started.append(process)
        return process

    def ready(self, process: Process) -> tuple[bool, str]:
        return process.alive() and not self.fails, "1"

    def last_words(self) -> str:
        return ""


@pytest.fixture
def kept() -> Iterator[tuple[Keeper, Sleeper, Callable[[State], None]]]:
    changed = threading.Condition()

    def tell() -> None:
        with changed:
            changed.notify_all()

    service = Sleeper()
    keeper = Keeper(service, tell)

    def wait(state: State) -> None:
        with changed:
            assert changed.wait_for(lambda: keeper.status.state is state, 20), keeper.status

    keeper.begin()
    try:
        yield keeper, service, wait
    finally:
        keeper.end()
        assert keeper.join(30)
        for child in service.children:
            assert child.poll() is not None or child.wait(5) is not None


Kept = tuple[Keeper, Sleeper, Callable[[State], None]]


def test_a_held_service_is_stopped_and_starts_again(kept: Kept) -> None:
    keeper, service, wait = kept
    for round_ in range(1, 4):
        wait(State.READY)
        assert len(service.started) == round_
        assert keeper.hold()
        assert not keeper.hold()
        wait(State.STOPPED)
        assert not any(process.alive() for process in service.started)
        keeper.release()
    wait(State.READY)
    assert keeper.status.restarts == 0


def test_one_that_does_not_stay_up_can_be_held_between_its_restarts(kept: Kept) -> None:
    keeper, service, wait = kept
    wait(State.READY)
    service.fails = True
    service.started[0].send(signal.SIGKILL)
    wait(State.BACKOFF)
    began = time.monotonic()
    assert keeper.hold()
    wait(State.STOPPED)
    assert time.monotonic() - began < 10
    service.fails = False
    keeper.release()
    wait(State.READY)


def test_a_held_service_can_be_ended(kept: Kept) -> None:
    keeper, _, wait = kept
    wait(State.READY)
    assert keeper.hold()
    wait(State.STOPPED)
