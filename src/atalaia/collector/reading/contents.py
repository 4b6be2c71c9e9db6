"""What a file holds: its bytes, or those that it holds compressed. Positions count the latter's uncompressed bytes."""

from __future__ import annotations

import bz2
import lzma
import os
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol, TypeAlias

import pyarrow as pa

_FEED = 64 << 10  # compressed bytes at a time
_PIECE = 1 << 20  # uncompressed bytes at a time, whatever they were compressed to
_KEPT = 8 << 20  # uncompressed bytes behind the reader that can be read again without beginning anew
_MAGIC = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zst"}
LZ4 = b"\x04\x22\x4d\x18"
"""How an LZ4 frame begins, which is not read here."""
KINDS = {"gz": "gz", "bz2": "bz2", "xz": "xz", "zst": "zst", "zstd": "zst", "z": "z"}
"""Names of compressions (Promtail's and extensions) and what they are here."""

# Compressed bytes -> uncompressed ones, the compressed ones to be given next, whether the stream ended.
Step: TypeAlias = Callable[[bytes], tuple[bytes, bytes, bool]]


class Content(Protocol):
    """The bytes of an open file, of which there may be more at any time."""

    descriptor: int

    def read(self, count: int, at: int) -> bytes:
        """At most `count` bytes from `at` on; fewer only at the end of what there is."""

    def size(self) -> int:
        """How many bytes are known to be there."""

    def whole(self) -> bool:
        """Whether nothing can be behind `size` as long as the file stays as it is."""

    def close(self) -> None:
        """Close the file."""


class Plain:
    """A file as it is."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def read(self, count: int, at: int) -> bytes:
        """See Content."""
        return os.pread(self.descriptor, count, at)

    def size(self) -> int:
        """See Content."""
        return os.fstat(self.descriptor).st_size

    def whole(self) -> bool:
        """See Content."""
        return True

    def close(self) -> None:
        """See Content."""
        os.close(self.descriptor)


class Compressed:
    """What a gz, bz2, xz, zst or z file holds. Memory is bounded; to read again far behind begins anew.

    An archive that is cut off is read as far as it goes, and further when it has grown. `broken`: why it is not read
    further although there is more of it.
    """

    def __init__(self, descriptor: int, kind: str) -> None:
        self.descriptor = descriptor
        self.kind = kind
        self._begin()

    def _begin(self) -> None:
        self.broken: str | None = None
        self._kept = bytearray()
        self._at = 0  # of `_kept`, in the content
        self._whole = False
        self._stuck: tuple[int, int] | None = None  # the file when nothing more came out of it
        make = _zstd if self.kind == "zst" else partial(_pieces, kind=self.kind)
        self._pieces: Iterator[bytes | None] = make(self.descriptor)

    def read(self, count: int, at: int) -> bytes:
        """See Content."""
        if at < self._at:
            self._begin()
        while self._at + len(self._kept) < at + count and self._more():
            surplus = min(at - self._at, len(self._kept)) - _KEPT
            if surplus > _PIECE:
                del self._kept[:surplus]
                self._at += surplus
        start = max(0, at - self._at)
        with memoryview(self._kept) as kept:
            return bytes(kept[start : start + count])

    def _more(self) -> bool:
        """Decompress some more; False when there is no more now."""
        status = os.fstat(self.descriptor)
        stands = status.st_size, status.st_mtime_ns
        if self._stuck is not None:
            if self._stuck == stands:
                return False
            if self.broken:
                self._begin()
        try:
            piece = next(self._pieces)
        except (zlib.error, lzma.LZMAError, EOFError, OSError, ValueError, StopIteration) as error:
            self.broken = str(error) or "it is damaged"
            piece = b""
        self._whole = piece is None
        self._stuck = None if piece else stands
        self._kept += piece or b""
        return bool(piece)

    def size(self) -> int:
        """See Content."""
        return self._at + len(self._kept)

    def whole(self) -> bool:
        """See Content."""
        self._more()
        return self._whole

    def close(self) -> None:
        """See Content."""
        self._pieces = iter(())
        os.close(self.descriptor)


def _pieces(descriptor: int, kind: str) -> Iterator[bytes | None]:
    """Uncompressed pieces; empty where the file is cut off, None at its end. May be asked again after both."""
    at, data = 0, b""
    while True:
        feeder = _inflated if kind in ("gz", "z") else _expanded
        ended, begun = False, False
        decompress = feeder(kind)
        while not ended:
            if not data:
                data = os.pread(descriptor, _FEED, at)
                at += len(data)
                if not begun:
                    data = data.lstrip(b"\0")  # archives may be padded
                if not data:
                    yield b"" if begun else None
                    continue
            begun = True
            piece, data, ended = decompress(data)
            if piece:
                yield piece


def _inflated(kind: str) -> Step:
    inflate = zlib.decompressobj(31 if kind == "gz" else 15)

    def step(data: bytes) -> tuple[bytes, bytes, bool]:
        piece = inflate.decompress(data, _PIECE)
        return piece, inflate.unused_data if inflate.eof else inflate.unconsumed_tail, inflate.eof

    return step


def _expanded(kind: str) -> Step:
    expand: bz2.BZ2Decompressor | lzma.LZMADecompressor
    expand = bz2.BZ2Decompressor() if kind == "bz2" else lzma.LZMADecompressor()
    given = False

    def step(data: bytes) -> tuple[bytes, bytes, bool]:
        # It keeps what it has not worked on yet: the same data is not given twice.
        nonlocal given
        piece = expand.decompress(b"" if given else data, _PIECE)
        if expand.eof:
            return piece, expand.unused_data, True
        given = not expand.needs_input
        return piece, data if given else b"", False

    return step


def _zstd(descriptor: int) -> Iterator[bytes | None]:
    """As `_pieces`."""
    given = 0
    while True:
        with os.fdopen(os.dup(descriptor), "rb") as raw:
            raw.seek(0)
            empty = not raw.read(1)
            raw.seek(0)
            with pa.CompressedInputStream(pa.PythonFile(raw, "r"), "zstd") as stream:
                left, cut = given, False
                while not empty:
                    try:
                        piece = stream.read(_PIECE)
                    except OSError as error:
                        if "Truncated" not in str(error):
                            raise
                        cut = True
                        break
                    if not piece:
                        break
                    fresh = piece[left:]
                    left -= len(piece) - len(fresh)
                    given += len(fresh)
                    if fresh:
                        yield fresh
        yield b"" if cut else None


def kind_of(head: bytes) -> str | None:
    """The compression that a file's first bytes tell of; None: none that is read here, and can be told by them."""
    return next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)


def looks_binary(head: bytes) -> bool:
    """Whether a file's first bytes are not text: a tenth or more of them NUL (lastlog, wtmp, btmp, journals)."""
    return head.count(0) * 10 > len(head)
