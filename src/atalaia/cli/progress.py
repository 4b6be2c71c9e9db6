"""How far a long command has come: a bar on a terminal, now and then a line elsewhere. On standard error."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from atalaia.environment.units import show_size

_EVERY = 10.0  # seconds between two lines


class Meter:
    """`update` it with what is done and what there is, in `unit`s ("B": bytes) or in all unknown (None)."""

    def __init__(self, what: str, unit: str) -> None:
        self._what = what
        self._unit = unit
        self._began = self._told = time.monotonic()
        self._done = 0
        self._bar: Progress | None = None
        if sys.stderr.isatty():
            columns = (TextColumn("{task.description}"), BarColumn(), Rate(unit), TimeRemainingColumn())
            console = Console(file=sys.stderr, highlight=False)
            # Rich would send what is printed to standard output to its own console.
            self._bar = Progress(
                *columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False
            )
            self._task = self._bar.add_task(what, total=None)

    def __enter__(self) -> Meter:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def tell(self, line: str) -> None:
        """Print a line to standard output, above the bar where both are on the same terminal."""
        if self._bar and sys.stdout.isatty():
            self._bar.console.print(line, markup=False, soft_wrap=True)
        else:
            print(line, flush=True)

    def update(self, done: int, total: int | None = None, also: str = "") -> None:
        """Tell how far it is, and what else there is to tell."""
        what = f"{self._what}, {also}" if also else self._what
        if self._bar:
            self._bar.update(self._task, completed=done, total=total, description=what)
        elif time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            rate = done / (self._told - self._began)
            left = f", about {(total - done) / rate:.0f} s left" if total and rate else ""
            of = f" of {_shown(total, self._unit)}" if total else ""
            print(
                f"{what}: {_shown(done, self._unit)}{of}, {_shown(rate, self._unit)}/s{left}",
                file=sys.stderr,
                flush=True,
            )


class Rate(ProgressColumn):
    """What is done, and how fast."""

    def __init__(self, unit: str) -> None:
        super().__init__(Column(no_wrap=True))
        self._unit = unit

    def render(self, task: Task) -> Text:
        """Text for the bar."""
        of = f"/{_shown(task.total, self._unit)}" if task.total else ""
        return Text(f"{_shown(task.completed, self._unit)}{of} {_shown(task.speed or 0, self._unit)}/s")


def _shown(count: float, unit: str) -> str:
    return show_size(count) if unit == "B" else f"{count:,.0f} {unit}"
