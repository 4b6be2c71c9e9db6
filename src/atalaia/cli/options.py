"""What `atalaia query` was asked, and all that is wrong with it at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from atalaia.cli.output import Form, Style
from atalaia.environment.errors import InputError
from atalaia.environment.units import parse_duration

if TYPE_CHECKING:
    from atalaia.logql.tree import Query

T = TypeVar("T")
_PAGE = 5000
_MOST_DELAY = 5


class Zone(StrEnum):
    """In which times are shown."""

    UTC = "utc"
    LOCAL = "local"


class Problems:
    """Collects what is wrong."""

    def __init__(self) -> None:
        self._found: list[InputError] = []

    def add(self, message: str, remedy: str = "") -> None:
        """One more."""
        self._found.append(InputError(message, remedy))

    def tried(self, work: Callable[[], T]) -> T | None:
        """What `work` gives; None, and one more, when it raises InputError."""
        try:
            return work()
        except InputError as error:
            self._found.append(error)
            return None

    def tell(self) -> None:
        """Raises InputError when there are any."""
        if len(self._found) == 1:
            raise self._found[0]
        if self._found:
            texts = [str(error).replace("\n", "\n    ") for error in self._found]
            raise InputError("\n".join([f"{len(texts)} things are wrong:", *(f"  - {text}" for text in texts)]))


@dataclass(frozen=True, slots=True)
class Checked:
    """What was read of the options' texts: times in ns."""

    at: int | None = None
    step: int | None = None
    metric: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """The options as given; see `atalaia query --help`."""

    logql: str | None
    limit: int
    forward: bool
    interval: str | None
    step: str | None
    instant: bool
    at: str | None
    follow: bool
    delay_for: int
    labels: bool
    series: bool
    histogram: bool
    stats: bool
    explain: bool
    form: Form
    out: Path | None
    whole: bool
    quiet: bool
    style: Style

    def checked(self, problems: Problems, tree: Query | None) -> Checked:
        """What the options' texts say; `problems` takes what is wrong with them and their combination."""
        from atalaia.logql.tree import LogQuery

        metric = tree is not None and not isinstance(tree, LogQuery)
        if self.logql is None and not self.labels:
            problems.add("there is no query", "give one such as '{job=\"postgres\"}', or ask for --labels")
        if self.limit < 0:
            problems.add(f"--limit {self.limit} is less than 0", "0 asks for all lines")
        if not 0 <= self.delay_for <= _MOST_DELAY:
            problems.add(f"--delay-for {self.delay_for} is not from 0 to {_MOST_DELAY} seconds")
        self._combined(problems, metric, isinstance(tree, LogQuery))
        step = problems.tried(lambda: _duration(self.step, "--step"))
        problems.tried(lambda: _duration(self.interval, "--interval"))
        at = None
        if self.at is not None:
            from atalaia.cli.logs import moment

            text = self.at
            at = problems.tried(lambda: moment(text, "--at"))
        return Checked(at, step, metric)

    def _combined(self, problems: Problems, metric: bool, lines: bool) -> None:
        def together(wrong: bool, message: str, remedy: str = "") -> None:
            if wrong:
                problems.add(message, remedy)

        modes = {"--labels": self.labels, "--series": self.series, "--follow": self.follow, "--explain": self.explain}
        chosen = [name for name, on in modes.items() if on]
        together(len(chosen) > 1, f"{' and '.join(chosen)} do not go together", "ask for one of them")
        together(self.instant and self.step is not None, "--instant and --step do not go together")
        together(self.instant and self.histogram, "--instant and --histogram do not go together")
        together(metric and self.follow, "a metric query cannot be followed", "follow lines, or repeat the query")
        together(metric and self.series, "--series takes a selector, not a metric query")
        together(metric and self.interval is not None, "--interval is for lines", "for a metric query give --step")
        together(lines and self.step is not None and not self.histogram, "--step is for metric queries and --histogram")
        together(lines and self.instant, "--instant and --at are for metric queries", "for lines give --from and --to")
        together(self.histogram and self.follow, "--histogram and --follow do not go together")
        together(self.follow and self.forward, "--follow shows oldest lines first anyway: leave --forward out")
        together(
            self.follow and self.form in (Form.PARQUET, Form.TABLE),
            f"--follow cannot write {self.form.value}: it never ends",
            "take default, raw, jsonl or csv",
        )
        together(
            self.form is Form.PARQUET and self.out is None, "--output parquet is no text", "give --out FILE.parquet"
        )
        together(
            self.form is Form.TABLE and lines and not 0 < self.limit <= _PAGE,
            f"--output table keeps all lines in memory: at most {_PAGE}",
            "for more take csv or jsonl",
        )
        together(
            self.interval is not None and not 0 < self.limit <= _PAGE,
            f"--interval is answered at once: at most {_PAGE} lines",
            f"give --limit 1 to {_PAGE}",
        )
        if self.out is not None and (self.out.is_dir() or not self.out.absolute().parent.is_dir()):
            problems.add(f"--out {self.out} cannot be written: there is no such folder, or it is one")
        both = set(self.style.shown.include) & set(self.style.shown.exclude)
        together(bool(both), f"{', '.join(sorted(both))} is both to be shown and not to be shown")


def _duration(text: str | None, name: str) -> int | None:
    if text is None:
        return None
    try:
        found = int(float(text) * 10**9) if text.replace(".", "", 1).isdigit() else parse_duration(text)
    except ValueError as error:
        raise InputError(f"{name}: {error}") from error
    if found <= 0:
        raise InputError(f"{name} {text} is not more than nothing")
    return found
