"""Shares out numbered work among threads so that neighbours, which are of the same file, go to the same one."""

from __future__ import annotations

import threading


class Shares:
    """The numbers below `count`: each worker takes its own part in order, and when that is done half of another's.

    Two threads that write to one file wait for its lock, and the kernel lets them do that at full speed.
    """

    def __init__(self, count: int, workers: int) -> None:
        self._lock = threading.Lock()
        self._left = [range(count * i // workers, count * (i + 1) // workers) for i in range(workers)]

    def take(self, worker: int) -> int | None:
        """The next number of a worker; None when there is none left."""
        with self._lock:
            if not self._left[worker]:
                longest = max(range(len(self._left)), key=lambda one: len(self._left[one]))
                other = self._left[longest]
                half = len(other) // 2
                self._left[longest], self._left[worker] = other[:half], other[half:]
            own = self._left[worker]
            if not own:
                return None
            self._left[worker] = own[1:]
            return own[0]

    def stop(self) -> None:
        """Nothing is left to take."""
        with self._lock:
            self._left = [range(0)] * len(self._left)
