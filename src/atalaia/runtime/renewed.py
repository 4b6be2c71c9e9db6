"""Values made from files, which are made again when the files change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

from atalaia.environment.errors import AtalaiaError

T = TypeVar("T")
Stamp = tuple[int, int, int]


def stamp(path: Path) -> Stamp | None:
    """What changes when a file does; None for no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_size, found.st_mtime_ns


class Renewed(Generic[T]):
    """A value made from files. While changed files are bad, the old value stays."""

    def __init__(
        self,
        files: Iterable[Path | None],
        make: Callable[[], T],
        tell: Callable[[AtalaiaError | OSError | None], None] = lambda _: None,
    ) -> None:
        """`tell` hears of each change: why it failed, or None. Raises what `make` raises."""
        self._files = [path for path in files if path is not None]
        self._make = make
        self._tell = tell
        self._lock = threading.Lock()
        self._stamps = self._now()
        self._value = make()

    def _now(self) -> list[Stamp | None]:
        return [stamp(path) for path in self._files]

    def get(self) -> T:
        """The value by the files as they are: a stat of each."""
        if self._files and self._now() != self._stamps:
            with self._lock:
                now = self._now()
                if now != self._stamps:
                    self._stamps = now
                    try:
                        self._value = self._make()
                        self._tell(None)
                    except (AtalaiaError, OSError) as error:
                        self._tell(error)  # half renewed, it may be: the stamps change again when it is whole
        return self._value
