"""The only way by which diagnosis sees logs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from atalaia.client.entries import LogEntry


class LogReader(Protocol):
    """Whatever answers LogQL log queries: the embedded store, a Loki, or a list in a test."""

    def entries(
        self, query: str, *, start: int, end: int, limit: int | None = None, newest_first: bool = False
    ) -> Iterator[LogEntry]:
        """Entries of `query` in [start, end) (ns since 1970), oldest first unless told otherwise, at most
        `limit`.
        """
        ...
