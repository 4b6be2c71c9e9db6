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
    """Configuration files have problems; all of them are in `problems`, in the order of files and lines.

    `outcome`: what was not done because of them.
    """

    def __init__(self, problems: list[Problem], outcome: str = "nothing was started") -> None:
        self.problems = sorted(problems, key=lambda p: (str(p.file), p.line))
        count = "one problem" if len(problems) == 1 else f"{len(problems)} problems"
        listed = "\n".join(f"  {problem}" for problem in self.problems)
        files = list(dict.fromkeys(problem.file.name for problem in self.problems))
        have = f"{', '.join(files)} {'has' if len(files) == 1 else 'have'} {count}"
        super().__init__(f"{have}; {outcome}:\n{listed}")
