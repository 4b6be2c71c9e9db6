"""What a command costs, with all that it starts: seconds, CPU, and the memory of everything but PostgreSQL servers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from atalaia.environment.errors import AtalaiaError

_EVERY = 0.02  # seconds between two looks
_SERVERS = ("postgres", "initdb")


@dataclass(frozen=True, slots=True)
class Usage:
    """`cpu` in seconds, user and system, with children; `peak` in MB: VmHWM of those alive at a time, summed."""

    seconds: float
    cpu: float
    peak: float
    output: str = ""

    @property
    def note(self) -> str:
        """CPU and memory in words."""
        return f"CPU {self.cpu:.1f} s, peak {self.peak:,.0f} MB"


def run(
    command: Sequence[str | Path] | str,
    variables: Mapping[str, str] | None = None,
    *,
    user: str | None = None,
    cwd: Path | str = "/",
    stdin: IO[bytes] | None = None,
) -> Usage:
    """Run a command, or a line of bash, to its end. Raises AtalaiaError when it fails, with its last words."""
    words = ["bash", "-c", f"set -o pipefail; {command}"] if isinstance(command, str) else [str(c) for c in command]
    os.sync()  # what others have written is not written on our time
    began = time.perf_counter()
    with subprocess.Popen(
        words,
        env={**os.environ, **(variables or {})},
        cwd=cwd,
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        user=user,
        group=_group(user),
        extra_groups=[] if user else None,
    ) as process:
        watcher = _Watcher(process.pid)
        watcher.start()
        out, err = _read(process)
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        watcher.end()
    if process.returncode:
        said = (err or out).decode(errors="replace").strip()[-1000:]
        raise AtalaiaError(f"{' '.join(words)[:200]} ended with {process.returncode}: {said}", "run it by hand")
    return Usage(seconds, used.ru_utime + used.ru_stime, watcher.peak, out.decode(errors="replace"))


def _read(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    """Both outputs until they end, without waiting for the process itself: that gives its CPU."""
    assert process.stdout
    assert process.stderr
    errors: list[bytes] = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read() if process.stderr else b""))
    reader.start()
    out = process.stdout.read()
    reader.join()
    return out, b"".join(errors)


def _group(user: str | None) -> int | None:
    import pwd

    return pwd.getpwnam(user).pw_gid if user else None


class _Watcher(threading.Thread):
    """Sums the peaks of a process and its descendants, as long as they live; keeps the largest sum, in MB."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self.peak = 0.0
        self._pid = pid
        self._done = threading.Event()

    def run(self) -> None:
        while not self._done.wait(_EVERY):
            self.peak = max(self.peak, sum(map(_peak, _family(self._pid))))

    def end(self) -> None:
        """Stop looking."""
        self._done.set()
        self.join()


def _family(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    return found


def _peak(pid: int) -> float:
    try:
        lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    except OSError:
        return 0.0
    if lines["Name"].strip() in _SERVERS or "VmHWM" not in lines:
        return 0.0
    return int(lines["VmHWM"].split()[0]) * 1024 / 1e6
