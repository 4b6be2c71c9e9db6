"""`atalaia` as a process that ends or halts itself at the n-th thing it does to the world, or has a wrong clock.

    python backup_dying.py '{"folder": "/env", "told": "/env/steps", "at": 17, "signal": 9, "match": "x"}' backup now

Steps are what Python's audit events and fsync tell: files opened for writing, renamed and removed, folders made,
processes started, catalogues opened, locks taken. `told` gets how many there were; `at` 0 lets it run.
With `match`, only steps count that this regular expression finds. `clock`: seconds by which its clock is wrong.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import runpy
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_EVENTS = {
    *("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.chmod", "os.chown"),
    *("shutil.rmtree", "sqlite3.connect", "subprocess.Popen", "fcntl.flock", "os.kill", "os.killpg"),
}
_TREE = 100  # of the files that the removal of a directory removes, how many make one step
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Steps:
    """Counts the steps of this process, and sends it a signal at one of them."""

    def __init__(self, folder: str, at: int, number: int, match: str, told: str) -> None:
        self._folder, self._at, self._signal, self._match = folder, at, number, re.compile(match)
        self._told = Path(told)
        self._process = os.getpid()
        self._count = 0
        self._removed = 0
        self._lock = threading.Lock()
        self._busy = threading.local()

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook (sys.addaudithook)."""
        if event == "open":
            if isinstance(arguments[0], (str, os.PathLike, bytes)) and arguments[2] & _WRITING and self._own(arguments):
                self._step(f"open {os.fsdecode(arguments[0])}")
        elif event in _EVENTS:
            if event in ("os.remove", "os.rmdir") and not os.path.isabs(arguments[0]):
                self._removed += 1
                if self._removed % _TREE:
                    return
            self._step(f"{event} {arguments[0]!r:.150}")

    def around(self, name: str) -> None:
        """Count the calls of os.NAME, before and after."""
        original: Callable[..., Any] = getattr(os, name)

        def counted(*arguments: Any) -> Any:
            self._step(f"before {name}")
            done = original(*arguments)
            self._step(f"after {name}")
            return done

        setattr(os, name, counted)

    def _own(self, arguments: tuple[Any, ...]) -> bool:
        return os.fsdecode(arguments[0]).startswith(self._folder)

    def _step(self, what: str) -> None:
        if os.getpid() != self._process or getattr(self._busy, "now", False) or not self._match.search(what):
            return
        self._busy.now = True
        try:
            with self._lock:
                self._count += 1
                if self._count == self._at:
                    self._told.write_text(f"{self._count} {what}")
                    os.kill(self._process, self._signal)
        finally:
            self._busy.now = False

    def tell(self) -> None:
        """Write down how many steps there were."""
        self._busy.now = True
        self._told.write_text(f"{self._count} the end")


def shift(seconds: float) -> None:
    """Let all clocks that can be set be wrong by some seconds; those that measure time go on."""
    right = time.time
    kept = datetime.datetime

    class Shifted(kept):  # type: ignore[misc, valid-type]  # the class that every module imports from now on
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Shifted:
            return cls.fromtimestamp(right() + seconds, tz)

    time.time = lambda: right() + seconds
    time.time_ns = lambda: int((right() + seconds) * 1e9)
    datetime.datetime = Shifted  # type: ignore[misc]  # see above


def main() -> None:
    """Run `atalaia` with the arguments that follow the order."""
    order = json.loads(sys.argv[1])
    if order.get("clock"):
        shift(order["clock"])
    steps = Steps(
        order["folder"], order.get("at", 0), order.get("signal", signal.SIGKILL), order.get("match", ""), order["told"]
    )
    for name in ("fsync", "pwrite"):
        steps.around(name)
    sys.addaudithook(steps.hook)
    sys.argv = ["atalaia", *sys.argv[2:]]
    try:
        runpy.run_module("atalaia", run_name="__main__", alter_sys=True)
    finally:
        steps.tell()


if __name__ == "__main__":
    main()
