"""Rule files named in the configuration; a change of them counts without a restart."""

from __future__ import annotations

import glob
import logging
from collections.abc import Sequence
from pathlib import Path

from atalaia.environment.errors import AtalaiaError
from atalaia.rules.model import Group, Placed
from atalaia.rules.reading import read_files

log = logging.getLogger("atalaia.rules")
TENANT = "fake"
"""Whose the files' rules are: Loki's name for a request that names no tenant."""
_Stamp = tuple[str, int, int]


def rule_files(patterns: Sequence[str]) -> list[Path]:
    """The files that match globs (`**` for folders in between), sorted."""
    return sorted(
        {Path(path) for pattern in patterns for path in glob.glob(pattern, recursive=True) if Path(path).is_file()}
    )


class RuleFiles:
    """The files of some globs. A file that cannot be read is told, and what it said before stays."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = tuple(patterns)
        self._stamps: dict[Path, _Stamp | None] = {}
        self._found: dict[Path, tuple[Group, ...]] = {}
        self.problems: dict[Path, str] = {}
        """What is wrong with files now."""

    def changed(self) -> bool:
        """Read what has changed since the last time; whether anything has."""
        stamps = {path: _stamp(path) for path in rule_files(self._patterns)}
        if stamps == self._stamps:
            return False
        for path in self._stamps.keys() - stamps.keys():
            self._found.pop(path, None)
            self.problems.pop(path, None)
        for path, stamp in stamps.items():
            if stamp == self._stamps.get(path):
                continue
            try:
                self._found[path] = read_files([path])[path]
                self.problems.pop(path, None)
            except AtalaiaError as error:
                self.problems[path] = error.what
                log.error("event=rules_unreadable file=%s reason=%r", path, error.what)
        self._stamps = stamps
        return True

    def all(self) -> list[Placed]:
        """Every group. Files of one name in several folders are told apart by their folder."""
        paths = sorted(self._found)
        names = [path.name for path in paths]
        return [
            Placed(TENANT, path.name if names.count(path.name) == 1 else str(path), group, path)
            for path in paths
            for group in self._found[path]
        ]


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return (str(path), found.st_mtime_ns, found.st_size)
