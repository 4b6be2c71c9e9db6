"""The last bytes that were read of a file: by them it is known whether it is still the same one."""

from __future__ import annotations

from atalaia.collector.reading import identity
from atalaia.collector.reading.chunk import Chunk
from atalaia.collector.reading.contents import Content
from atalaia.collector.reading.identity import Known


class Trail:
    """What was read last, and fingerprints of the places where chunks ended.

    They are taken from what was read, and not read again where that can be: the file may be another one by then.
    """

    def __init__(self) -> None:
        self._last: tuple[int, bytes] | None = None  # a position, and the bytes that end there
        self._prior = (0, b"")  # the same for where the last chunk began
        self._marks: dict[int, tuple[int, int]] = {}

    def forget(self) -> None:
        """Reading goes on elsewhere."""
        self._last = None

    def same(self, content: Content, known: Known, position: int) -> bool:
        """Whether the file still has its beginning, and before `position` what was read there."""
        if self._last is None or self._last[0] != position:
            size = min(position, identity.SPAN)
            there = content.read(size, position - size)
            if not known.holds(content.read):
                return False  # what is there is another's, and would be taken for ours in the copy of what was read
            self._last = position, there
            return True
        data = self._last[1]
        return content.read(len(data), position - len(data)) == data and known.begins(content.read)

    def was_same(self, content: Content, known: Known, chunk: Chunk) -> bool:
        """Whether the file was the same when a chunk had been read: it may be cut and written at any moment."""
        data = self._last[1] if self._last else b""
        there = content.size() >= chunk.end and content.read(len(data), chunk.start - len(data)) == data
        return there and known.begins(content.read)

    def remember(self, chunk: Chunk) -> None:
        """Keep the last bytes of a chunk, and those before it."""
        self._prior = chunk.start, self._last[1] if self._last else b""
        if chunk.ends is None and not chunk.cut and len(chunk.block) == chunk.end - chunk.start:
            self._last = chunk.end, (self._prior[1] + chunk.block[-identity.SPAN :])[-identity.SPAN :]
        else:
            self._last = None

    def back(self, chunk: Chunk, end: int, content: Content | None) -> None:
        """Reading goes on from `end`, within the chunk that was read last."""
        before = self._before(chunk, end, content)
        self._last = (end, before) if before else None

    def mark(self, chunk: Chunk, end: int, content: Content | None) -> None:
        """What is acknowledged next ends at `end`, within the chunk that was read last."""
        if before := self._before(chunk, end, content):
            self._marks[end] = identity.crc(before)

    def mark_at(self, offset: int) -> tuple[int, int]:
        """Size and CRC-32 of the bytes that end at `offset`; (0, 0): not known. Those before are forgotten."""
        mark = self._marks.get(offset, (0, 0))
        self._marks = {end: found for end, found in self._marks.items() if end > offset}
        return mark

    def _before(self, chunk: Chunk, end: int, content: Content | None) -> bytes:
        size = min(end, identity.SPAN)
        if chunk.ends is None and not chunk.cut:
            start, prior = self._prior
            own = chunk.block[max(0, end - chunk.start - size) : end - chunk.start]
            if len(own) == size:
                return own
            if start == chunk.start:
                return (prior + own)[-size:]
        return content.read(size, end - size) if content is not None else b""
