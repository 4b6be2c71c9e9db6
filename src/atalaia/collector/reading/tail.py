"""One open file: whole lines in blocks, never more than a block in memory, whatever its lines are like."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from atalaia.collector.lines import NEWLINE, shorten
from atalaia.collector.plan import Job
from atalaia.collector.reading import identity
from atalaia.collector.reading.identity import Known

BLOCK = 4 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """The bytes `start` to `end` of a file: whole lines, ready to be parsed. `cut`: size of a line that was cut.

    `flush`: these lines have waited long enough for what may belong to them.
    """

    known_id: str
    start: int
    end: int
    block: bytes
    read_at: int
    cut: int = 0
    flush: bool = False

    def offset_of(self, line: int) -> int:
        """Where in the file a line of the block begins; for the number of its lines, where the next block begins."""
        if not line:
            return self.start
        ends = np.flatnonzero(np.frombuffer(self.block, np.uint8) == NEWLINE)
        return self.end if line >= len(ends) else self.start + int(ends[line - 1]) + 1


class Tail:
    """Reads one file from where it is acknowledged. `position` is the next byte to read."""

    def __init__(self, job: Job, labels: dict[str, str], known: Known, descriptor: int, max_line: int) -> None:
        self.job = job
        self.labels = labels
        self.known = known
        self.descriptor = descriptor
        self.position = known.offset
        self.orphan_since: float | None = None
        self._max_line = max_line
        self._head = b""
        self._long = 0  # bytes of an overlong line that were passed over already
        self._held: tuple[int, float] | None = None  # the file's size when lines were held back, and since when

    @property
    def size(self) -> int:
        """The file's size now, in bytes."""
        return os.fstat(self.descriptor).st_size

    @property
    def linked(self) -> bool:
        """Whether the file still has a name somewhere."""
        return os.fstat(self.descriptor).st_nlink > 0

    def rewind(self, offset: int) -> None:
        """Read again from `offset`."""
        self.position = offset
        self._head, self._long = b"", 0
        self._held = None

    def hold(self, chunk: Chunk, lines: int) -> int:
        """Only so many lines of a chunk were taken: the next read begins behind them. Where that is."""
        end = chunk.offset_of(lines)
        if end < chunk.end:
            self.position = end
            self._held = chunk.end, time.monotonic()
        return end

    def truncated(self) -> bool:
        """Whether the file is shorter than what was read of it."""
        return self.size < self.position + self._long

    def replaced(self) -> bool:
        """Whether the file holds other bytes than those that were read: shorter, or with another beginning."""
        return self.truncated() or not self.known.begins(partial(os.pread, self.descriptor))

    def read(self, most: int = BLOCK, final: bool = False, flush: bool = False) -> Chunk | None:
        """The next whole lines, at most `most` bytes; with `final` also a last line that has no newline.

        Lines that were held back are read again once there are more, or when they have waited long enough (`flush`:
        they have).
        """
        if self._held is not None:
            size, since = self._held
            if not (final or flush) and self.size <= size and time.monotonic() - since < self.job.patience:
                return None
            flush = flush or self.size <= size
            most = max(most, BLOCK)  # more than was held, or it would be held for ever
            self._held = None
        chunk = self._read(most, final)
        return replace(chunk, flush=flush or final) if chunk is not None and (flush or final) else chunk

    def _read(self, most: int, final: bool) -> Chunk | None:
        if self._long:
            return self._pass_over(final)
        data = os.pread(self.descriptor, most, self.position)
        if not data:
            return None
        end = data.rfind(b"\n") + 1
        if not end and most <= self._max_line and len(data) == most:
            # A line longer than what is wanted now, yet not too long: it is read whole.
            return self._read(self._max_line + 1, final)
        if end:
            return self._chunk(data[:end] if end < len(data) else data, end)
        if len(data) >= most:
            self._head, self._long = data[: self._max_line], len(data)
            return self._pass_over(final)
        if final:
            return self._chunk(data + b"\n", len(data))
        return None

    def _pass_over(self, final: bool) -> Chunk | None:
        """Go through an overlong line without keeping more of it than its head."""
        while True:
            data = os.pread(self.descriptor, BLOCK, self.position + self._long)
            end = data.find(b"\n")
            if end < 0:
                self._long += len(data)
                if data:
                    continue
                if not final:
                    return None
                size, length = self._long, self._long
            else:
                size, length = self._long + end, self._long + end + 1
            line = shorten(self._head, size, self._max_line)
            chunk = self._chunk(line.encode() + b"\n", length, cut=size)
            self._head, self._long = b"", 0
            return chunk

    def _chunk(self, block: bytes, length: int, cut: int = 0) -> Chunk:
        start = self.position
        self.position += length
        return Chunk(self.known.id, start, self.position, block, time.time_ns(), cut)

    def acknowledged(self, offset: int) -> None:
        """The sink has everything up to `offset`."""
        size = min(offset, identity.SPAN)
        mark = identity.crc(os.pread(self.descriptor, size, offset - size))
        self.known = identity.grown(identity.moved(self.known, offset, mark), partial(os.pread, self.descriptor))

    def drained(self) -> bool:
        """Whether all that can be read is acknowledged."""
        return self.known.offset >= self.size

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


def looks_binary(descriptor: int) -> bool:
    """Whether a file's beginning is not text: a tenth or more of it NUL bytes (lastlog, wtmp, btmp, journals)."""
    data = os.pread(descriptor, 4096, 0)
    return data.count(0) * 10 > len(data)
