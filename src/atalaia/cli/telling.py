"""How far backups and restores are: bars on a terminal, lines with rate and time left elsewhere. On standard error."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from atalaia.cli.progress import Rate
from atalaia.environment.units import show_size

_EVERY = 5.0  # seconds between two lines of the same work


@dataclass(slots=True)
class _Work:
    began: float
    first: int  # bytes that were done when it was first told of: a resumed work does not begin at nothing
    told: float
    task: TaskID | None = None


class Teller:
    """Call it with a line; `advance` tells of bytes. Safe to use from several threads; bars go when it is left."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._works: dict[str, _Work] = {}
        self._bars: Progress | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), Rate("B"), TimeRemainingColumn())
            console = Console(file=sys.stderr, highlight=False)
            self._bars = Progress(
                *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
            )

    def __enter__(self) -> Teller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars:
            self._bars.stop()

    def __call__(self, line: str) -> None:
        """Tell a whole line."""
        with self._lock:
            if self._bars:
                self._bars.console.print(line, markup=False, soft_wrap=True)
            else:
                print(line, file=sys.stderr, flush=True)

    def advance(self, what: str, done: int, total: int) -> None:
        """Tell how far a work is, in bytes; `total` 0 is unknown."""
        now = time.monotonic()
        with self._lock:
            work = self._works.get(what)
            if work is None:
                work = self._works[what] = _Work(now, done, now)
                if self._bars:
                    self._bars.start()  # not before: a question may be asked until then
                    work.task = self._bars.add_task(what, total=total or None, completed=done)
            if self._bars and work.task is not None:
                self._bars.update(work.task, completed=done, total=total or None, visible=not total or done < total)
            elif now - work.told >= _EVERY and (not total or done < total):
                work.told = now
                print(line_of(what, done, total, (done - work.first) / (now - work.began)), file=sys.stderr, flush=True)


def line_of(what: str, done: int, total: int, rate: float) -> str:
    """One line: what is done, of how much, at which rate in bytes a second, and about how long it will take yet."""
    of = f" of {show_size(total)}" if total else ""
    left = f", about {_time((total - done) / rate)} left" if total and rate > 0 else ""
    return f"{what}: {show_size(done)}{of}, {show_size(rate)}/s{left}"


def _time(seconds: float) -> str:
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h {whole % 3600 // 60} min"
