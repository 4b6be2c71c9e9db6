"""Syslog messages out of a stream of bytes: octet-counted (RFC 6587 3.4.1) or ended by a newline or NUL (3.4.2)."""

from __future__ import annotations

import re

from atalaia.collector.lines import shorten

_COUNTED = re.compile(rb"[1-9][0-9]{0,8} ")
_COUNTED_LINE = re.compile(rb"[\n\0][1-9][0-9]{0,8} <")
_BETWEEN = b"\n\r\0 \t"


class Framer:
    """One connection's stream; both framings may follow each other."""

    def __init__(self, most: int) -> None:
        """A message beyond `most` bytes is cut there, with a mark, and the rest of it passed over."""
        self._most = most
        self._rest = b""
        self._left: int | None = None  # bytes of a counted message that are still to be passed over
        self._head: bytes | None = None  # the beginning of a message that is passed over
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are whole with these bytes."""
        found: list[bytes] = []
        if self._head is not None:
            data = self._pass_over(data, found)
        data = self._rest + data
        at = self._frames(data, found)
        self._rest = data[at:]
        if self._head is None and len(self._rest) > self._most + 16:
            self._begin_long()
        return found

    def end(self) -> list[bytes]:
        """What is left when the stream ends: a last line needs no newline; half a counted message is none."""
        last, self._rest = self._rest.strip(_BETWEEN), b""
        if self._head is not None:
            head, self._head = self._head, None
            return [shorten(head, self._size, self._most).encode()]
        return [last] if last and not _COUNTED.match(last) else []

    def _frames(self, data: bytes, found: list[bytes]) -> int:
        """Adds the messages of `data`; where the first one that is not whole begins."""
        at, end = 0, len(data)
        while at < end:
            if data[at] in _BETWEEN:
                at += 1
                continue
            counted = _COUNTED.match(data, at)
            if counted:
                size = int(counted[0])
                if counted.end() + size > end:
                    return at
                message = data[counted.end() : counted.end() + size]
                found.append(self._cut(message))
                at = counted.end() + size
                continue
            if 48 <= data[at] <= 57 and end - at < 10 and data[at:].isdigit():
                return at  # the rest of a count is still to come
            at, whole = self._lines(data, at, found)
            if not whole:
                return at
        return at

    def _lines(self, data: bytes, at: int, found: list[bytes]) -> tuple[int, bool]:
        """All lines until the next counted message: where they end, and whether nothing unfinished stands there."""
        other = _COUNTED_LINE.search(data, at)
        limit = other.start() + 1 if other else len(data)
        last = max(data.rfind(b"\n", at, limit), data.rfind(b"\0", at, limit)) + 1
        if last > at:
            lines = data[at:last]
            if b"\0" in lines:
                lines = lines.replace(b"\0", b"\n")
            found += [self._cut(line) for line in lines.split(b"\n") if line]
        return max(last, at), last >= limit

    def _cut(self, message: bytes) -> bytes:
        if message[-1:] in (b"\r", b"\n", b"\0"):
            message = message.rstrip(b"\r\n\0")
        if len(message) <= self._most:
            return message
        return shorten(message[: self._most], len(message), self._most).encode()

    def _begin_long(self) -> None:
        """The rest is longer than a message may be: only its head is kept."""
        counted = _COUNTED.match(self._rest)
        if counted:
            size = int(counted[0])
            if size <= self._most:
                return
            have = len(self._rest) - counted.end()
            self._head, self._size, self._left = self._rest[counted.end() :][: self._most], size, size - have
        else:
            self._head, self._size, self._left = self._rest[: self._most], len(self._rest), None
        self._rest = b""

    def _pass_over(self, data: bytes, found: list[bytes]) -> bytes:
        """What of `data` is behind the long message."""
        if self._left is not None:
            used = min(self._left, len(data))
            self._left -= used
            if self._left:
                return b""
        else:
            ends = [end for end in (data.find(b"\n"), data.find(b"\0")) if end >= 0]
            used = min(ends) if ends else len(data)
            self._size += used
            if not ends:
                return b""
        found.append(shorten(self._head or b"", self._size, self._most).encode())
        self._head, self._left = None, None
        return data[used:]
