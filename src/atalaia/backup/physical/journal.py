"""What of a restore is done, kept beside the files, so that a restore that was interrupted goes on where it was."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

NAME = "restored.json"
_EVERY = 1.0  # seconds between two notes: what came after the last is done again
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(slots=True)
class Journal:
    """Chunks that are in the files, by stream; `what` says which restore it is, `phase` how far it has come.

    It is not synced: after a crash of the machine, when files may have holes, the boot's id is another and all of
    it is done again. Safe to use from several threads.
    """

    path: Path
    what: str
    phase: str = "files"
    done: dict[str, set[int]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _noted: float = 0.0

    def mark(self, stream: str, number: int) -> None:
        """Chunk `number` of a stream is written."""
        with self._lock:
            self.done.setdefault(stream, set()).add(number)
            if time.monotonic() > self._noted + _EVERY:
                self._save()

    def enter(self, phase: str) -> None:
        """The next phase begins."""
        with self._lock:
            self.phase = phase
            self._save()

    def has(self, stream: str) -> frozenset[int]:
        """Chunks of a stream that are written."""
        return frozenset(self.done.get(stream, ()))

    def _save(self) -> None:
        partial = self.path.with_name(f".{self.path.name}.partial")
        ranges = {stream: list(_ranges(numbers)) for stream, numbers in self.done.items()}
        record = {"what": self.what, "boot": _boot(), "phase": self.phase, "done": ranges}
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            json.dump(record, file)
        partial.replace(self.path)
        self._noted = time.monotonic()


def resume(path: Path, what: str) -> Journal | None:
    """The journal of the same restore, interrupted since this machine started; None when there is none."""
    try:
        found = json.loads(path.read_text())
        if found["what"] != what or found["boot"] != _boot():
            return None
        done = {
            stream: {number for first, last in ranges for number in range(first, last + 1)}
            for stream, ranges in found["done"].items()
        }
        return Journal(path, what, found["phase"], done)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _boot() -> str:
    return _BOOT.read_text().strip()


def _ranges(numbers: Iterable[int]) -> Iterable[tuple[int, int]]:
    """Consecutive numbers as pairs of the first and the last."""
    first = last = None
    for number in sorted(numbers):
        if first is None or last is None:
            first = last = number
        elif number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    if first is not None and last is not None:
        yield first, last
