"""One file as one job reads it: whole lines in blocks, never more than a block in memory, whatever they are like."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from atalaia.collector.lines import NEWLINE, shorten
from atalaia.collector.plan import Job, Target
from atalaia.collector.reading import identity
from atalaia.collector.reading.chunk import BLOCK, Chunk
from atalaia.collector.reading.contents import Content
from atalaia.collector.reading.encodings import Encoding, encoding
from atalaia.collector.reading.identity import Known
from atalaia.collector.reading.tables import Planned
from atalaia.collector.reading.trail import Trail


class Replaced(Exception):
    """The file holds other bytes than those that were read of it: it was truncated, and has perhaps grown since."""


class Tail:
    """Reads one file from where it is acknowledged. `position` is the next byte to read.

    `content` is None while the file is closed, since there are too many or since it is gone. `fresh`: nothing of it
    was ever read, and what it is has still to be found out. `kind` of compression (None: none); `unpack`: whether
    such a file is wanted. Times are monotonic seconds.
    """

    def __init__(
        self,
        job: Job,
        labels: dict[str, str],
        known: Known,
        content: Content | None,
        max_line: int,
    ) -> None:
        self.job = job
        self.labels = labels
        self.known = known
        self.content = content
        self.position = known.offset
        self.fresh = False
        self.unpack = False
        self.kind: str | None = None
        self.target: Target | None = None
        self.found_at = time.monotonic()
        self.orphan_since: float | None = None
        self.behind_since: float | None = None
        self.stood: tuple[int, int] = (-1, -1)  # size and time of change when it was last read
        self.alone = True  # whether it has one name
        self._max_line = max_line
        self._encoding: Encoding | None = encoding(job.encoding) if job.encoding else None
        self._planned: deque[Planned] = deque()
        self._trail = Trail()
        self._head = b""
        self._long = 0  # bytes of an overlong line that were passed over already
        self._held: tuple[int, float] | None = None  # the content's size when lines were held back, and since when

    def begin(self, known: Known) -> None:
        """It is to be read as this, which nothing was read of under this tail."""
        self.known, self.fresh = known, False
        self.rewind(known.offset)

    def another(self, known: Known, content: Content | None) -> Tail:
        """A tail as this one, for another content."""
        made = Tail(self.job, self.labels, known, content, self._max_line)
        made.target, made.unpack, made.orphan_since = self.target, self.unpack, self.orphan_since
        return made

    def replay(self, planned: Iterable[Planned]) -> None:
        """Read these chunks first, as they were when they were about to be sent."""
        self._planned = deque(planned)

    @property
    def wide(self) -> bool:
        """Whether its text has NUL bytes by nature."""
        return self._encoding is not None and self._encoding.width > 1

    @property
    def unlinked(self) -> bool:
        """Whether the open file has no name any more."""
        return self.content is not None and os.fstat(self.content.descriptor).st_nlink == 0

    @property
    def broken(self) -> str | None:
        """Why a compressed file is not read further."""
        return getattr(self.content, "broken", None)

    @property
    def size(self) -> int:
        """Bytes of the content, as far as they are known."""
        if self.content is not None:
            return self.content.size()
        return self.position if self.kind is not None else max(self.stood[0], 0)

    @property
    def key(self) -> tuple[str, int, int]:
        """Job, device and inode."""
        return self.job.name, *self.known.identity

    @property
    def waits_until(self) -> float | None:
        """When lines that are held back are to be read again, if nothing comes (monotonic seconds)."""
        return None if self._held is None else self._held[1] + self.job.patience

    def rewind(self, offset: int) -> None:
        """Read again from `offset`."""
        self.position = offset
        self._head, self._long = b"", 0
        self._held = None
        self._trail.forget()

    def hold(self, chunk: Chunk, lines: int) -> int:
        """Only so many lines of a chunk were taken: the next read begins behind them. Where that is."""
        end = chunk.offset_of(lines)
        if end > chunk.start:
            self._trail.mark(chunk, end, self.content)
        if end < chunk.end:
            self.position = end
            self._held = chunk.end, time.monotonic()
            self._trail.back(chunk, end, self.content)
        return end

    def only(self, chunk: Chunk, lines: int) -> Chunk:
        """The first lines of a chunk that was just read; the next read begins behind them."""
        end = chunk.offset_of(lines)
        kept = chunk.first(lines)
        self.position = end
        self._trail.back(chunk, end, self.content)
        return replace(kept, end=end, ends=None if chunk.ends is None else chunk.ends[:lines])

    def still(self) -> bool:
        """Whether the file holds what was read of it: not shorter, the same beginning, the same last bytes."""
        content = self.content
        if content is None or content.size() < self.position + self._long:
            return False
        return self._trail.same(content, self.known, self.position)

    def read(self, most: int = BLOCK, final: bool = False, flush: bool = False) -> Chunk | None:
        """The next whole lines, at most `most` bytes; with `final` also a last line that has no newline.

        Lines that were held back are read again once there are more, or when they have waited long enough (`flush`:
        they have). Raises Replaced.
        """
        content = self.content
        if content is None:
            return None
        if self._held is not None:
            size, since = self._held
            grown = content.size() > size
            if not (final or flush or grown) and time.monotonic() - since < self.job.patience:
                return None
            flush = flush or not grown
            most = max(most, BLOCK)  # more than was held, or it would be held for ever
        before = self.position
        if self.kind is None and not self.still():
            raise Replaced
        chunk = self._as_planned(content) or self._read(content, most, final)
        if chunk is not None:
            self._held = None
            if self.kind is None and not self._trail.was_same(content, self.known, chunk):
                self.rewind(before)
                raise Replaced
            self._trail.remember(chunk)
            if self.known.head_size < identity.SPAN:
                self.known = self._grown(chunk, content)
        if chunk is not None and (flush or final):
            chunk = replace(chunk, flush=True)
        return chunk

    def _grown(self, chunk: Chunk, content: Content) -> Known:
        """The content with a longer fingerprint, of what was just read: the file may be another one at any time."""
        size = min(chunk.end, identity.SPAN)
        if chunk.start or chunk.cut or chunk.ends is not None:
            return identity.grown(self.known, content.read)
        return identity.grown(self.known, lambda count, at: chunk.block[:size][at : at + count])

    def _as_planned(self, content: Content) -> Chunk | None:
        """The chunk that was on its way from here when the collector ended, as it was then."""
        while self._planned and self._planned[0].start < self.position:
            self._planned.popleft()
        if not self._planned or self._planned[0].start > self.position:
            return None
        planned = self._planned.popleft()
        size = planned.end - planned.start
        data = content.read(size, planned.start) if size <= 2 * (BLOCK + self._max_line) else b""
        if len(data) < size:
            chunk = self._read(content, BLOCK, False)  # an overlong line
            return None if chunk is None else replace(chunk, read_at=planned.read_at, flush=True)
        ends = self._ends(data)
        if len(ends) == 1 and size > self._max_line + 4:
            self._head, self._long = data[: self._max_line], len(data) - 1
            chunk = self._pass_over(content, True)
        else:
            chunk = self._chunk(data, size, ended=len(ends) > 0 and int(ends[-1]) == size)
        return None if chunk is None else replace(chunk, read_at=planned.read_at, flush=True)

    def _ends(self, data: bytes) -> np.ndarray:
        if self._encoding is not None:
            return self._encoding.ends(data)
        return np.flatnonzero(np.frombuffer(data, np.uint8) == NEWLINE) + 1

    def _last_end(self, data: bytes) -> int:
        """Behind the last newline; 0 for none."""
        if self._encoding is None:
            return data.rfind(b"\n") + 1
        ends = self._encoding.ends(data)
        return int(ends[-1]) if len(ends) else 0

    def _read(self, content: Content, most: int, final: bool) -> Chunk | None:
        if self._long:
            return self._pass_over(content, final)
        data = content.read(most, self.position)
        if not data:
            return None
        if not self.position and self._encoding is not None:
            self._encoding = self._encoding.of_file(data)
        end = self._last_end(data)
        if not end and most <= self._max_line and len(data) == most:
            # A line longer than what is wanted now, yet not too long: it is read whole.
            return self._read(content, self._max_line + 1, final)
        if end:
            return self._chunk(data[:end] if end < len(data) else data, end)
        if len(data) >= most:
            whole = self._max_line // 4 * 4  # whole code units of any width
            self._head, self._long = data[:whole], len(data) // 4 * 4
            return self._pass_over(content, final)
        if final:
            return self._chunk(data, len(data), ended=False)
        return None

    def _pass_over(self, content: Content, final: bool) -> Chunk | None:
        """Go through an overlong line without keeping more of it than its head."""
        while True:
            data = content.read(BLOCK, self.position + self._long)
            ends = self._ends(data)
            if not len(ends):
                if len(data) == BLOCK:
                    self._long += len(data)
                    continue
                if not final:
                    return None
                size = length = self._long + len(data)
            else:
                length = self._long + int(ends[0])
                size = length - (self._encoding.width if self._encoding else 1)
            head = self._head
            if self._encoding is not None:
                head = self._encoding.decoded(head + self._encoding.newline, not self.position)[:-1]
            line = shorten(head, size, self._max_line)
            chunk = self._made(line.encode() + b"\n", length, cut=size)
            self._head, self._long = b"", 0
            return chunk

    def _chunk(self, data: bytes, length: int, ended: bool = True) -> Chunk:
        """Of whole lines; `ended`: the last has its newline."""
        code = self._encoding
        if code is None:
            return self._made(data if ended else data + b"\n", length)
        if not ended:
            data = data[: len(data) // code.width * code.width] + code.newline
        return self._made(code.decoded(data, not self.position), length, ends=code.ends(data))

    def _made(self, block: bytes, length: int, cut: int = 0, ends: np.ndarray | None = None) -> Chunk:
        start = self.position
        self.position += length
        return Chunk(self.known.id, start, self.position, block, time.time_ns(), cut, ends=ends)

    def acknowledged(self, offset: int) -> None:
        """The sink has everything up to `offset`."""
        self.known = identity.moved(self.known, offset, self._trail.mark_at(offset))
        if self.kind is not None and self.content is not None and self.drained():
            self.known = replace(self.known, whole=os.fstat(self.content.descriptor).st_size)

    def drained(self) -> bool:
        """Whether all that can be read is acknowledged."""
        content = self.content
        return content is None or (self.known.offset >= content.size() and content.whole())

    def close(self) -> None:
        """Close the file."""
        if self.content is not None:
            self.content.close()
            self.content = None
