"""What is told of files: once a file, not at every look."""

from __future__ import annotations

import logging

log = logging.getLogger("atalaia.collector")


class Told:
    """Remembers what was told. Used by the reading thread alone."""

    def __init__(self) -> None:
        self._told: dict[str, set[str]] = {}

    def once(self, what: str, path: str, why: str) -> None:
        """Report something about a file the first time it happens."""
        told = self._told.setdefault(path, set())
        if what not in told:
            told.add(what)
            log.warning("event=file_%s file=%s reason=%r", what, path, why)

    def forget(self, path: str) -> None:
        """It is another file now: what happens to it is news."""
        self._told.pop(path, None)
