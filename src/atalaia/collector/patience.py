"""How long lines wait for those that may belong to them: each by itself, so that a quiet stream holds up no other."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable

from atalaia.collector.lines import count
from atalaia.collector.reading.chunk import Chunk

_TOGETHER = 0.1  # seconds; lines that came in so short a time are taken to have come at its end


class Patience:
    """Remembers of each file that has waiting lines up to where it was read when. Times in monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._read: dict[str, list[tuple[int, float]]] = {}  # by the file's id: offsets, rising, and when

    def waited(self, chunk: Chunk, seconds: float) -> int:
        """The line of a chunk before which all have waited for so long."""
        before = self._clock() - seconds
        offset = max((end for end, at in self._read.get(chunk.known_id, ()) if at <= before), default=chunk.start)
        if offset <= chunk.start:
            return 0
        return bisect_right(range(1, count(chunk.block) + 1), offset, key=chunk.offset_of)

    def settle(self, chunk: Chunk, end: int) -> None:
        """Only what is before the byte `end` of the file was taken; the rest of the chunk waits."""
        found = self._read.pop(chunk.known_id, [])
        if end >= chunk.end:
            return
        found = [(offset, at) for offset, at in found if offset > end]
        now = self._clock()
        if not found or chunk.end > found[-1][0]:
            if len(found) > 1 and now - found[-2][1] < _TOGETHER:
                found.pop()
            found.append((chunk.end, now))
        self._read[chunk.known_id] = found
