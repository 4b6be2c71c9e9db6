"""What an environment's collector tells `atalaia status`: a small JSON file, replaced atomically.

`{"version": 1, "pid": …, "written": seconds since 1970, "outputs": [{"output", "files", "files_behind", "bytes_behind",
"seconds_behind", "worst": [{"path", "job", "size", "behind", "seconds"}…]}…]}`. `worst`: by bytes, ten at most.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from atalaia.collector.lagging import FileLag
from atalaia.environment.state import write_atomically

FILE_NAME = "status.json"
_WORST = 10


@dataclass(frozen=True, slots=True)
class OutputLag:
    """How far one output is behind."""

    output: str
    files: int
    files_behind: int
    bytes_behind: int
    seconds_behind: float
    worst: tuple[FileLag, ...]


@dataclass(frozen=True, slots=True)
class CollectorState:
    """`written` in seconds since 1970, by the process `pid`."""

    pid: int
    written: float
    outputs: tuple[OutputLag, ...]


def summed(output: str, lags: Sequence[FileLag]) -> OutputLag:
    """One output's files together."""
    late = [lag for lag in lags if lag.behind]
    worst = sorted(late, key=lambda lag: (-lag.behind, lag.path))[:_WORST]
    seconds = max((lag.seconds for lag in late), default=0.0)
    return OutputLag(output, len(lags), len(late), sum(lag.behind for lag in late), round(seconds, 1), tuple(worst))


class StateFile:
    """Writes the file when what it tells has changed; never raises: a full disk is told by those who need it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._written: tuple[OutputLag, ...] | None = None

    def write(self, outputs: Sequence[OutputLag]) -> None:
        """Replace it."""
        told = tuple(outputs)
        if told == self._written:
            return
        content = {"version": 1, "pid": os.getpid(), "written": time.time(), "outputs": [asdict(one) for one in told]}
        with contextlib.suppress(OSError):
            write_atomically(self._path, json.dumps(content) + "\n")
            self._written = told

    def remove(self) -> None:
        """The collector has ended."""
        with contextlib.suppress(OSError):
            self._path.unlink(missing_ok=True)


def read(path: Path) -> CollectorState | None:
    """What the file tells; None when there is none, or none that can be understood."""
    try:
        content = json.loads(path.read_text())
        if content["version"] != 1:
            return None
        return CollectorState(
            int(content["pid"]), float(content["written"]), tuple(_output(one) for one in content["outputs"])
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _output(one: Mapping[str, object]) -> OutputLag:
    worst = one["worst"]
    if not isinstance(worst, list):
        raise TypeError("worst is no list")
    return OutputLag(**{**one, "worst": tuple(FileLag(**lag) for lag in worst)})  # type: ignore[arg-type]  # as written
