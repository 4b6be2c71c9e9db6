"""The errors a user is meant to read. Everything else that reaches the command line is a bug."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


class AtalaiaError(Exception):
    """Something failed that the user can act on: what happened, to what, and what to do next.

    `exit_code` is what the command line returns: 1 for a failure, 2 for wrong input.
    """

    exit_code = 1

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}\n  {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class InputError(AtalaiaError):
    """The command, a file or a value given by the user is wrong. Nothing was started or changed."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a configuration file. `line` counts from 1; 0 means the file as a whole."""

    file: Path
    line: int
    message: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.file.name}:{self.line}" if self.line else self.file.name
        return f"{where}: {self.message}\n    {self.remedy}"


class ConfigurationError(InputError):
    """A configuration file has problems; all of them are in `problems`, in the order of their lines."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: (str(p.file), p.line))
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        listed = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{self.problems[0].file.name} has {count}; nothing was started:\n{listed}")
