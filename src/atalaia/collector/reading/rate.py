"""How many lines a second are read, when the configuration limits them."""

from __future__ import annotations

import time

import numpy as np

from atalaia.collector.lines import NEWLINE
from atalaia.collector.plan import Limits
from atalaia.collector.reading.chunk import Chunk
from atalaia.collector.reading.tail import Tail
from atalaia.collector.reading.telling import Told


class Rate:
    """A bucket of lines: `burst` fit in, `rate` a second come in. Used by the reading thread alone."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines = float(limits.burst)
        self._filled = time.monotonic()

    def spent(self) -> bool:
        """Whether nothing may be read now."""
        if self._limits.rate is None:
            return False
        now = time.monotonic()
        self._lines = min(float(self._limits.burst), self._lines + (now - self._filled) * self._limits.rate)
        self._filled = now
        return self._lines < 1 and not self._limits.drop

    def limited(self, tail: Tail, chunk: Chunk, told: Told) -> Chunk:
        """As much of the chunk as may be read; the rest waits in the file, or is dropped where that is wanted."""
        if self._limits.rate is None:
            return chunk
        count = int(np.count_nonzero(np.frombuffer(chunk.block, np.uint8) == NEWLINE))
        most = int(self._lines)
        if count <= most:
            self._lines -= count
            return chunk
        self._lines -= most
        if self._limits.drop:
            told.once("rate_dropped", tail.known.path, f"more than {self._limits.rate:g} lines/s: lines are dropped")
            return chunk.first(most)
        return tail.only(chunk, max(most, 1))
