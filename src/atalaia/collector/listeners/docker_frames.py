"""What Docker's API sends as a container's log, with timestamps -> lines.

Format: Docker Engine API, "Attach to a container", stream format; each frame, or each line of a terminal, begins
with a time of RFC 3339. Docker splits lines at 16 KiB; the parts, each with its time, are put together again.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atalaia.collector.lines import shorten

PART = 16 << 10  # bytes at which Docker splits a line
LONGEST = 1 << 20  # bytes of a line; beyond, it is cut
_STAMP = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d) ")
_STREAMS = {0: "stdin", 1: "stdout", 2: "stderr"}


class FrameError(ValueError):
    """The log is not what Docker sends; the message says why."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a container. `stamp`: its time as Docker writes it, empty for none; `raw` without its end."""

    stream: str
    stamp: bytes
    raw: bytes


class _Joined:
    """The parts of one stream's line until its newline."""

    def __init__(self) -> None:
        self._stamp = b""
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, stream: str, data: bytes) -> list[Line]:
        """One part, with its time; a line when it is whole."""
        stamp = _STAMP.match(data)
        text = data[stamp.end() :] if stamp else data
        if not self._parts:
            self._stamp = stamp[0][:-1] if stamp else b""
        if self._size < LONGEST:
            self._parts.append(text)
        self._size += len(text)
        return self.end(stream) if text.endswith(b"\n") else []

    def end(self, stream: str) -> list[Line]:
        """What there is, as a line."""
        if not self._parts:
            return []
        raw = b"".join(self._parts).rstrip(b"\r\n")
        if self._size > LONGEST + 2:
            raw = shorten(raw[:LONGEST], self._size, LONGEST).encode()
        line = Line(stream, self._stamp, raw)
        self._parts, self._size = [], 0
        return [line]


class Multiplexed:
    """The log of a container without a terminal: frames of both its streams."""

    def __init__(self) -> None:
        self._rest = b""
        self._streams = {name: _Joined() for name in _STREAMS.values()}

    def feed(self, data: bytes) -> list[Line]:
        """The lines that are whole with these bytes. Raises FrameError."""
        data = self._rest + data
        at, found = 0, []
        while len(data) - at >= 8:
            size = int.from_bytes(data[at + 4 : at + 8], "big")
            stream = _STREAMS.get(data[at])
            if stream is None or data[at + 1 : at + 4] != b"\0\0\0":
                raise FrameError(f"a frame begins with {data[at : at + 8].hex()}")
            if len(data) - at - 8 < size:
                break
            found += self._streams[stream].add(stream, data[at + 8 : at + 8 + size])
            at += 8 + size
        self._rest = data[at:]
        return found

    def end(self) -> list[Line]:
        """Last lines without a newline, when the container has ended."""
        return [line for name, stream in self._streams.items() for line in stream.end(name)]


class Terminal:
    """The log of a container with a terminal: one stream of lines, without frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Line]:
        """As Multiplexed."""
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        self._rest = data[end:]
        return [self._line(line) for line in data[:end].split(b"\n")[:-1]]

    def end(self) -> list[Line]:
        """As Multiplexed."""
        last, self._rest = self._rest, b""
        return [self._line(last)] if last else []

    def _line(self, data: bytes) -> Line:
        stamp = _STAMP.match(data)
        text = data[stamp.end() :] if stamp else data
        if len(text) > PART:
            # The time of each part stands between the parts.
            parts = []
            while len(text) > PART and (inner := _STAMP.match(text, PART)):
                parts.append(text[:PART])
                text = text[inner.end() :]
            text = b"".join([*parts, text])
        text = text.rstrip(b"\r")
        raw = text if len(text) <= LONGEST else shorten(text[:LONGEST], len(text), LONGEST).encode()
        return Line("stdout", stamp[0][:-1] if stamp else b"", raw)
