"""A piece of a file: whole lines, and where they are in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from atalaia.collector.lines import NEWLINE

BLOCK = 4 << 20  # bytes of a chunk, at most, if no line is longer


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes `start` to `end` of a file: whole lines, ready to be parsed. `cut`: size of a line that was cut.

    `block` is UTF-8; `ends` (int64[N], None: as in the block) says where its lines end in the file, from `start` on.
    `flush`: these lines have waited long enough for what may belong to them.
    """

    known_id: str
    start: int
    end: int
    block: bytes
    read_at: int
    cut: int = 0
    flush: bool = False
    ends: np.ndarray | None = None

    def offset_of(self, line: int) -> int:
        """Where in the file a line of the block begins; for the number of its lines, where the next block begins."""
        if not line:
            return self.start
        ends = self.ends
        if ends is None:
            ends = np.flatnonzero(np.frombuffer(self.block, np.uint8) == NEWLINE) + 1
        return self.end if line >= len(ends) else self.start + int(ends[line - 1])

    def first(self, lines: int) -> Chunk:
        """The first lines, one at least; the others dropped: it ends where it did."""
        found = np.flatnonzero(np.frombuffer(self.block, np.uint8) == NEWLINE) + 1
        ends = found if self.ends is None else self.ends
        lines = max(lines, 1)
        return replace(self, block=self.block[: int(found[lines - 1])], ends=ends[:lines])
