"""pg_receivewal as a child: it writes a server's WAL into the spool, segment by segment, until it is stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from atalaia.backup.wal.slot import NAME
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import environment_variables
from atalaia.postgres.tools import variables
from atalaia.runtime import process as processes
from atalaia.runtime.process import Process

_NOTE = "receiver.json"
_KEPT = 4096  # characters of what it said


@dataclass(slots=True)
class Stream:
    """A running pg_receivewal; `said` are its last words."""

    child: subprocess.Popen[bytes]
    said: str = ""

    def ended(self) -> bool:
        """Whether it has ended; what it says is read on the way, so that it never waits for us."""
        over = self.child.poll() is not None
        assert self.child.stderr
        with contextlib.suppress(BlockingIOError):
            while block := os.read(self.child.stderr.fileno(), 65_536):
                self.said = (self.said + block.decode(errors="replace"))[-_KEPT:]
        return over

    @property
    def reason(self) -> str:
        """Why it has ended, in its own words."""
        lines = [line for line in self.said.splitlines() if "error:" in line or "FATAL" in line]
        lines = [line for line in lines if not line.endswith("error: disconnected")] or lines
        told = lines[-1] if lines else (self.said.strip().splitlines() or ["it said nothing"])[-1]
        return told.removeprefix("pg_receivewal: ").removeprefix("error: ").strip()

    def stop(self) -> None:
        """End it: it closes its files first."""
        for number, seconds in ((signal.SIGINT, 10.0), (signal.SIGKILL, 10.0)):
            if self.child.poll() is None:
                self.child.send_signal(number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.child.wait(seconds)
        self.ended()
        assert self.child.stderr
        self.child.stderr.close()


def start(cluster: Cluster, spool: Path) -> Stream:
    """Stream into `spool`, through the slot, from where the newest file there ends. Raises AtalaiaError."""
    program = cluster.installation.program("pg_receivewal")
    if not program.is_file():
        found = shutil.which("pg_receivewal")
        raise AtalaiaError(
            f"{program} is missing" + (f" (there is {found})" if found else ""),
            "install PostgreSQL's client programs of that version (postgresql-client)",
        )
    try:
        child = subprocess.Popen(
            [
                program,
                f"--directory={spool}",
                f"--slot={NAME}",
                *("--no-loop", "--no-password", "--status-interval=1"),
                # It tells of each segment: once nobody reads that any more, it ends with the next one.
                "--verbose",
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd="/",
            env=variables(environment_variables(cluster) | {"PGAPPNAME": "atalaia wal"}),
            start_new_session=True,  # Ctrl-C is ours to handle
            umask=0o077,
        )
    except OSError as error:
        raise AtalaiaError(f"{program} could not be started: {error.strerror or error}", "check its rights") from error
    assert child.stderr
    os.set_blocking(child.stderr.fileno(), False)
    if process := Process.of(child.pid):
        process.save(spool.parent / _NOTE)
    return Stream(child)


def end_abandoned(spool: Path) -> None:
    """End a pg_receivewal that outlived whoever started it."""
    if process := Process.read(spool.parent / _NOTE):
        processes.stop(process, ((signal.SIGINT, 5.0), (signal.SIGKILL, 5.0)))
