"""Between the threads that receive and the one that parses: a queue with a bound in bytes, and unique times."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Generic, TypeVar

import numpy as np

T = TypeVar("T")


class Inbox(Generic[T]):
    """Items with their sizes in bytes. One thread takes, any may put."""

    def __init__(self, most: int = 32 << 20) -> None:
        self._most = most
        self._items: deque[T] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._closed = False

    def offer(self, item: T, size: int) -> bool:
        """Add it, or tell that there is no room."""
        with self._changed:
            if self._size >= self._most or self._closed:
                return False
            self._add(item, size)
            return True

    def put(self, item: T, size: int) -> bool:
        """Add it as soon as there is room; False when closed."""
        with self._changed:
            while self._size >= self._most and not self._closed:
                self._changed.wait()
            if self._closed:
                return False
            self._add(item, size)
            return True

    def _add(self, item: T, size: int) -> None:
        self._items.append(item)
        self._size += size
        self._changed.notify_all()

    def take(self, patience: float) -> list[T]:
        """All there is; waits so many seconds for the first. Empty too when closed."""
        with self._changed:
            if not self._items and not self._closed:
                self._changed.wait(patience)
            found = list(self._items)
            self._items.clear()
            self._size = 0
            self._changed.notify_all()
            return found

    @property
    def finished(self) -> bool:
        """Closed, and everything was taken."""
        with self._changed:
            return self._closed and not self._items

    def close(self) -> None:
        """Nothing is added any more; what is in it can still be taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


class Stamps:
    """Times of arrival in ns, none twice: Loki would take two equal lines of one time as one. Any thread may ask."""

    def __init__(self) -> None:
        self._last = 0
        self._lock = threading.Lock()

    def next(self, count: int) -> np.ndarray:
        """int64[count], rising."""
        with self._lock:
            first = max(time.time_ns(), self._last + 1)
            self._last = first + count - 1
        return np.arange(first, first + count, dtype=np.int64)
