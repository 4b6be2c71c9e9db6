"""The uncompressed bytes of a text in blocks of whole lines, with the SHA-256 of all before."""

from __future__ import annotations

import hashlib
from typing import BinaryIO

from atalaia.collector.importing.files import BROKEN
from atalaia.environment.errors import InputError

BLOCK = 4 << 20
_NAMED = 4096  # bytes of a first line that name a text
_PARQUET = b"PAR1"


class Content:
    """Reads on from `position` (bytes). UTF-16 becomes UTF-8 first: positions are those of the UTF-8 text."""

    def __init__(self, stream: BinaryIO) -> None:
        """Raises InputError for what is no text."""
        self._stream = stream
        self._digest = hashlib.sha256()
        self.position = 0
        self.damage: str | None = None
        head = self._fill()
        self._encoding: str | None = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else None
        self._odd = b""
        if self._encoding:
            self._encoding = "utf-16-le" if head[:2] == b"\xff\xfe" else "utf-16-be"
            head = self._utf8(head[2:])
        elif head.startswith(_PARQUET):
            raise InputError("it is a Parquet file", "`atalaia store import` takes it")
        elif head[:4096].count(0) * 10 > len(head[:4096]):
            raise InputError("it is not text", "name log files; unpack what is packed in a way not known here")
        self._next = head.removeprefix(b"\xef\xbb\xbf")

    @property
    def first_line(self) -> bytes:
        """What names this text: its first line, of a long one the beginning. Before anything is read."""
        return self._next[:_NAMED].partition(b"\n")[0]

    @property
    def head(self) -> bytes:
        """What `read` gives next, at least the whole of a small text."""
        return self._next

    def digest(self) -> str:
        """SHA-256 of all bytes before `position`."""
        return self._digest.copy().hexdigest()

    def read(self) -> bytes:
        """The next bytes, some MiB; empty at the end, also of what can be read of a damaged archive (see `damage`)."""
        if not self._next:
            return b""
        data = self._next
        self._next = self._more()
        return data

    def took(self, data: bytes) -> None:
        """These bytes, in the order of reading, lie before `position` now."""
        self._digest.update(data)
        self.position += len(data)

    def _more(self) -> bytes:
        data = self._fill()
        return self._utf8(data) if self._encoding and data else data

    def _fill(self) -> bytes:
        """A block, or what is left; of a damaged archive also what stands before the damage."""
        parts, left = [], BLOCK
        try:
            while left and not self.damage and (part := self._stream.read1(left)):  # type: ignore[attr-defined]  # all have it
                parts.append(part)
                left -= len(part)
        except BROKEN as error:
            self.damage = str(error) or type(error).__name__
        return b"".join(parts)

    def _utf8(self, data: bytes) -> bytes:
        data = self._odd + data
        assert self._encoding is not None
        end = len(data) - len(data) % 2
        # A character of two units is not cut in the middle.
        high = data[end - 1] if self._encoding.endswith("le") else data[end - 2]
        if end >= 2 and 0xD8 <= high <= 0xDB:
            end -= 2
        self._odd = data[end:]
        return data[:end].decode(self._encoding, "replace").encode()
