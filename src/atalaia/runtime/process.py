"""Processes that outlive whoever started them: start, recognise, wait for, stop."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from atalaia.environment.errors import AtalaiaError
from atalaia.environment.state import write_atomically
from atalaia.runtime.accounts import Account


@dataclass(frozen=True, slots=True)
class Process:
    """One process, as /proc knows it: `started` is field 22 of /proc/PID/stat, clock ticks since boot."""

    pid: int
    started: int

    def alive(self) -> bool:
        """Whether this very process still runs (a zombie does not)."""
        return _start_time(self.pid) == self.started

    def wait(self, seconds: float) -> bool:
        """Wait until it ends, at most `seconds`; True when it has. Works for children and for adopted ones."""
        deadline = time.monotonic() + seconds
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if self.alive():
                poller = select.poll()
                poller.register(descriptor, select.POLLIN)
                poller.poll(max(0.0, deadline - time.monotonic()) * 1000)
        finally:
            os.close(descriptor)
        return not self.alive()

    def send(self, number: int) -> None:
        """Send a signal, unless the process has ended."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return
        try:
            if self.alive():
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)

    def reap(self) -> int | None:
        """The exit status when this is an ended child of ours, else None."""
        with contextlib.suppress(ChildProcessError):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        return None

    def save(self, path: Path) -> None:
        """Write it down for whoever comes after us."""
        write_atomically(path, json.dumps(asdict(self)))

    @staticmethod
    def read(path: Path) -> Process | None:
        """The process saved at `path`, if it still runs."""
        try:
            data = json.loads(path.read_text())
            process = Process(int(data["pid"]), int(data["started"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return process if process.alive() else None

    @staticmethod
    def of(pid: int) -> Process | None:
        """The running process with this PID, or None."""
        started = _start_time(pid)
        return None if started is None else Process(pid, started)


def _start_time(pid: int) -> int | None:
    """The start time of a process that runs; None for one that is gone or only waits to be reaped."""
    found = _stat(pid)
    return None if found is None or found[0] in "ZX" else found[1]


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start time, fields 3 and 22 of /proc/PID/stat (proc(5)); None for no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The command name, field 2, may hold spaces and parentheses.
    fields = stat[stat.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])


def start(
    arguments: Sequence[str | Path],
    *,
    output: Path,
    account: Account | None = None,
    folder: Path | None = None,
    variables: Mapping[str, str] | None = None,
) -> Process:
    """Start a program in a session of its own, both its outputs appended to `output`.

    Raises AtalaiaError when the program cannot be started.
    """
    with open(output, "ab", buffering=0) as sink:
        try:
            child = subprocess.Popen(
                [str(argument) for argument in arguments],
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                cwd=folder or "/",
                env=dict(os.environ if variables is None else variables),
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                umask=0o077,
            )
        except OSError as error:
            raise AtalaiaError(
                f"{arguments[0]} could not be started: {error}", "`atalaia doctor` checks what is needed"
            ) from error
    # Popen's own bookkeeping would warn at exit about a child that is meant to outlive us.
    child.returncode = 0
    # A child that has ended already waits to be reaped, and still has its start time.
    started = _stat(child.pid)
    assert started is not None
    return Process(child.pid, started[1])


def stop(process: Process, steps: Sequence[tuple[int, float]]) -> bool:
    """Send each signal in turn and wait its seconds; True once the process has ended."""
    for number, seconds in steps:
        process.send(number)
        if process.wait(seconds):
            process.reap()
            return True
    return not process.alive()
