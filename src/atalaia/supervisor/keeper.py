"""Keeps one service running, in a thread: adopt or start it, wait until it is ready, restart it when it ends."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.runtime.process import Process, stop
from atalaia.supervisor.service import Service

log = logging.getLogger("atalaia.supervisor")
_FIRST_DELAY, _LAST_DELAY = 0.5, 30.0  # seconds between restarts
_STEADY = 60.0  # seconds of work after which the delay begins anew
_START_PATIENCE = 120.0  # seconds that a start may take before it is told as a problem


class State(StrEnum):
    """What a service is doing."""

    STARTING = "starting"
    READY = "ready"
    BACKOFF = "restarting"
    FAILED = "failed"
    STOPPING = "stopping"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Status:
    """A service as `atalaia status` shows it. `since`: seconds since 1970."""

    name: str
    kind: str
    state: State
    address: str
    directory: str
    pid: int | None = None
    version: str = ""
    since: float = 0.0
    restarts: int = 0
    adopted: bool = False
    message: str = ""
    wrong_input: bool = False


class Keeper:
    """One service under care. `changed` is called whenever its status changes."""

    def __init__(self, service: Service, changed: Callable[[], None]) -> None:
        self.service = service
        self._changed = changed
        self.status = Status(
            service.name,
            service.kind,
            State.STARTING,
            service.address,
            str(service.directory),
            since=time.time(),
        )
        self._stop = threading.Event()
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._retry = threading.Event()
        self._free = threading.Event()
        self._free.set()
        self._thread = threading.Thread(target=self._run, name=service.name, daemon=True)

    def begin(self) -> None:
        """Start the thread."""
        self._thread.start()

    def retry(self) -> None:
        """Try a failed service again."""
        self._retry.set()

    def end(self) -> None:
        """Ask for a stop; `join` waits for it."""
        self._stop.set()
        self._retry.set()
        self._free.set()
        os.write(self._waker, b"x")

    def hold(self) -> bool:
        """Stop the service and leave it so until `release`; its status tells when. False when it is held already."""
        if not self._free.is_set():
            return False
        self._free.clear()
        self._retry.set()
        os.write(self._waker, b"x")
        return True

    def release(self) -> None:
        """Start it again."""
        self._free.set()

    def join(self, seconds: float) -> bool:
        """Wait for the stop; whether it is done."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _set(self, state: State, **values: object) -> None:
        if state is not self.status.state or values:
            since = self.status.since if state is self.status.state else time.time()
            self.status = replace(self.status, state=state, since=since, **values)  # type: ignore[arg-type]  # the fields' own types
            self._changed()

    def _run(self) -> None:
        delay = _FIRST_DELAY
        while not self._stop.is_set():
            try:
                self._stay_held()
                if self._stop.is_set():
                    break
                began = time.monotonic()
                process = self._adopt_or_start()
                if self._wait_until_ready(process):
                    self._wait_for_end(process)
                if self._stop.is_set():
                    self._end(process)
                    break
                if not self._free.is_set():
                    self._end(process)
                    continue
                process.reap()
                delay = _FIRST_DELAY if time.monotonic() - began > _STEADY else delay
                words = self.service.last_words().splitlines()[-1:]
                log.warning(
                    "event=service_ended name=%s pid=%d restart_in=%.1f last=%r",
                    self.service.name,
                    process.pid,
                    delay,
                    "".join(words),
                )
                self._set(
                    State.BACKOFF,
                    pid=None,
                    restarts=self.status.restarts + 1,
                    message=f"ended; {''.join(words)[:200]}",
                )
                self._pause(delay)
                delay = min(delay * 2, _LAST_DELAY)
            except AtalaiaError as error:
                # It cannot be started as things are: trying again and again would not help.
                log.error("event=service_failed name=%s reason=%r", self.service.name, str(error))
                wrong = isinstance(error, InputError)
                self._set(State.FAILED, pid=None, message=str(error), wrong_input=wrong)
                self._retry.wait()
                self._retry.clear()
        # One that failed its readiness runs all the same.
        left = self.service.adopt()
        if left is not None:
            self._end(left)
        self._set(State.STOPPED, pid=None, message="")

    def _pause(self, seconds: float) -> None:
        """Between restarts; a stop or a hold ends it."""
        poller = select.poll()
        poller.register(self._wake, select.POLLIN)
        poller.poll(seconds * 1000)

    def _stay_held(self) -> None:
        """While it is held: stopped, whoever had started it."""
        if self._free.is_set():
            return
        found = self.service.adopt()
        if found is not None:
            self._end(found)
        self._set(State.STOPPED, pid=None, message="held while it is being restored")
        self._free.wait()
        self._retry.clear()
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake, 4096)

    def _adopt_or_start(self) -> Process:
        found = self.service.adopt()
        if found is not None:
            log.info("event=adopted name=%s pid=%d", self.service.name, found.pid)
            self._set(State.STARTING, pid=found.pid, adopted=True, message="")
            return found
        self._set(State.STARTING, pid=None, adopted=False, message="")
        self.service.prepare()
        process = self.service.start()
        log.info("event=started name=%s pid=%d", self.service.name, process.pid)
        self._set(State.STARTING, pid=process.pid)
        return process

    def _wait_until_ready(self, process: Process) -> bool:
        began = time.monotonic()
        pause = 0.02
        while not self._stop.is_set() and self._free.is_set():
            good, what = self.service.ready(process)
            if good:
                self._set(State.READY, version=what, message="")
                return True
            if process.wait(0):
                return False
            late = time.monotonic() - began > _START_PATIENCE
            self._set(State.STARTING, message=f"not ready after {_START_PATIENCE:.0f} s: {what}" if late else what)
            self._stop.wait(pause)
            pause = min(pause * 1.5, 0.5)
        return False

    def _wait_for_end(self, process: Process) -> None:
        """Until the process ends or a stop is asked for."""
        try:
            descriptor = os.pidfd_open(process.pid)
        except ProcessLookupError:
            return
        try:
            poller = select.poll()
            poller.register(descriptor, select.POLLIN)
            poller.register(self._wake, select.POLLIN)
            # A PID that was used again before the pidfd was open is not our process.
            if process.alive():
                poller.poll()
        finally:
            os.close(descriptor)

    def _end(self, process: Process) -> None:
        self._set(State.STOPPING, message="")
        for number, seconds in self.service.stop_steps:
            if stop(process, ((number, seconds),)):
                break
            log.warning("event=slow_stop name=%s signal=%d seconds=%.0f", self.service.name, number, seconds)
        log.info("event=stopped_service name=%s", self.service.name)
