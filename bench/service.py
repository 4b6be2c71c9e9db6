"""Our own services under measurement: started, watched through /proc, stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from atalaia.collector.reading.positions import read as read_positions
from atalaia.environment.errors import AtalaiaError

_TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A running `atalaia` command. Its output is kept to explain an early end."""

    def __init__(self, *arguments: str) -> None:
        self._words = " ".join(arguments)
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - `stop` closes it
        command = [sys.executable, "-m", "atalaia", *arguments]
        self._process = subprocess.Popen(command, stdout=self._output, stderr=subprocess.STDOUT)

    @property
    def cpu(self) -> float:
        """CPU seconds so far, user and system."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS

    @property
    def peak(self) -> float:
        """Peak resident memory in MB since the start, or since `reset_peak`."""
        status = Path(f"/proc/{self._process.pid}/status").read_text().splitlines()
        return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024 / 1e6

    def reset_peak(self) -> None:
        """Let the peak begin at what is used now."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        """Return when `condition` holds. Raises AtalaiaError when the process ends or it takes too long."""
        deadline = time.monotonic() + seconds
        while not condition():
            if self._process.poll() is not None:
                raise AtalaiaError(f"atalaia {self._words} ended: {self._tail()}", "run it by hand to see why")
            if time.monotonic() > deadline:
                raise AtalaiaError(f"{what}: not within {seconds:.0f} s", "look whether the machine is busy")
            time.sleep(0.01)

    def stop(self) -> None:
        """End it, gently."""
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(120)
        self._output.close()

    def _tail(self) -> str:
        self._output.seek(0)
        return self._output.read().decode(errors="replace")[-1000:].strip()


@dataclass(frozen=True, slots=True)
class Store:
    """A running store, and one kept-alive connection to it."""

    base: str
    directory: Path
    process: Process
    http: httpx.Client

    def settle(self) -> None:
        """Wait until nothing is left to be done in the background."""
        self.process.wait(self._settled, 1800, "the store settles")

    def _settled(self) -> bool:
        return bool(self.http.get(f"{self.base}/atalaia/v1/store").json()["settled"])

    @property
    def disk(self) -> int:
        """Bytes of all its files."""
        return sum(path.stat().st_size for path in self.directory.rglob("*") if path.is_file())

    def held(self, positions: Path) -> int:
        """Bytes that the store has acknowledged of the files that a collector's positions name."""
        ids = list(read_positions(positions))
        if not ids:
            return 0
        answer = self.http.post(f"{self.base}/atalaia/v1/positions", json={"ids": ids})
        return sum(answer.json()["positions"].values())


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[Store]:
    """`atalaia serve` on a free port, ready; stopped at the end."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = Process("serve", "--data", str(directory), "--listen", f"127.0.0.1:{port}")
    try:
        with httpx.Client(timeout=120, trust_env=False) as http:
            store = Store(f"http://127.0.0.1:{port}", directory, process, http)
            process.wait(lambda: _answers(store), 120, "the store answers")
            yield store
    finally:
        process.stop()


@contextlib.contextmanager
def collecting(config: Path) -> Iterator[Process]:
    """`atalaia collect`, stopped at the end."""
    process = Process("collect", "--config", str(config))
    try:
        yield process
    finally:
        process.stop()


def _answers(store: Store) -> bool:
    with contextlib.suppress(httpx.HTTPError):
        return store.http.get(f"{store.base}/ready").status_code == 200
    return False
