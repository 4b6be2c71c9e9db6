"""What tells one file's content from another's: device, inode, fingerprints of its beginning and of where we stand."""

from __future__ import annotations

import os
import secrets
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

SPAN = 512  # bytes of a fingerprint, at most

# Up to so many bytes from an offset on: os.pread of a plain file, or of what a compressed one holds.
Read: TypeAlias = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True)
class Known:
    """The content of one file as one job reads it: `offset` bytes are acknowledged.

    `head_size` first bytes have the CRC-32 `head_crc`; the `mark_size` bytes that end at `mark_at` have `mark_crc`.
    `real` is the path without symbolic links. Device and inode are 0 once the content is no longer there under them.
    `seen`: when it was last known to be there, in seconds. `whole`: the size at which a compressed file was read to its
    end, 0 for none.
    """

    id: str
    job: str
    path: str
    device: int
    inode: int
    offset: int
    head_size: int
    head_crc: int
    seen: int
    real: str = ""
    mark_at: int = 0
    mark_size: int = 0
    mark_crc: int = 0
    whole: int = 0

    @property
    def identity(self) -> tuple[int, int]:
        """Device and inode."""
        return self.device, self.inode

    def begins(self, read: Read) -> bool:
        """Whether what is read begins as this content does."""
        return crc(read(self.head_size, 0)) == (self.head_size, self.head_crc)

    def holds(self, read: Read) -> bool:
        """Whether what is read is this content, or this and more: same beginning, and the mark where it was."""
        if not self.begins(read):
            return False
        if self.mark_size:
            return crc(read(self.mark_size, self.mark_at - self.mark_size)) == (self.mark_size, self.mark_crc)
        return not self.offset or len(read(1, self.offset - 1)) == 1


def crc(data: bytes) -> tuple[int, int]:
    """Size and CRC-32."""
    return len(data), zlib.crc32(data)


def begin(job: str, path: str, status: os.stat_result, read: Read, real: str | None = None) -> Known:
    """Content that was not known before; `real`: its path without links, when that is known."""
    size, code = crc(read(SPAN, 0))
    real = os.path.realpath(path) if real is None else real
    return Known(secrets.token_hex(8), job, path, status.st_dev, status.st_ino, 0, size, code, int(time.time()), real)


def moved(known: Known, offset: int, mark: tuple[int, int] = (0, 0)) -> Known:
    """The content with a new offset; `mark` is size and CRC-32 of the bytes that end there (0, 0: not known)."""
    known = replace(known, offset=offset, seen=int(time.time()))
    if mark[0]:
        return replace(known, mark_at=offset, mark_size=mark[0], mark_crc=mark[1])
    # An older mark still says something as long as it lies within what was read.
    return known if known.mark_at <= offset else replace(known, mark_at=0, mark_size=0, mark_crc=0)


def grown(known: Known, read: Read) -> Known:
    """The content with a longer fingerprint of its beginning, when there is more of it now."""
    if known.head_size == SPAN:
        return known
    data = read(SPAN, 0)
    if crc(data[: known.head_size]) != (known.head_size, known.head_crc):
        return known
    size, code = crc(data)
    return replace(known, head_size=size, head_crc=code)
