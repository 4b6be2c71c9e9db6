"""A dump's file -> the bytes in it, decompressed, in blocks; and why they end where they end."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from atalaia.backup.model import Progress, advance
from atalaia.collector.reading.contents import LZ4, Compressed, Plain, kind_of
from atalaia.environment.errors import InputError

BLOCK = 1 << 20


class Source:
    """A file that is read from its beginning as often as asked. Raises InputError when it cannot be read.

    `broken` says after `blocks` why the compressed stream could not be read further.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                if not stat.S_ISREG(status.st_mode):
                    raise InputError(f"{path} is not a file", "give the file of a dump, or the folder of a pg_dump -Fd")
                magic = file.read(8)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}", "give the file of a dump") from error
        self.size = status.st_size
        self.mode = stat.S_IMODE(status.st_mode)
        self.modified = status.st_mtime_ns
        self.compression = "lz4" if magic.startswith(LZ4) else kind_of(magic) or ""
        self.broken = ""

    def blocks(self, progress: Progress | None = None, what: str = "reading") -> Iterator[bytes]:
        """What is in it, in blocks of at most 1 MiB. Raises InputError when it has changed since it was opened."""
        self.broken = ""
        if self.compression == "lz4":
            yield from self._lz4()
            return
        descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(descriptor)
        if (status.st_size, status.st_mtime_ns) != (self.size, self.modified):
            os.close(descriptor)
            raise InputError(f"{self.path} has changed while it was inspected", "inspect it when it is finished")
        content = Compressed(descriptor, self.compression) if self.compression else Plain(descriptor)
        try:
            at = 0
            while block := content.read(BLOCK, at):
                at += len(block)
                yield block
                if progress and not self.compression:
                    advance(progress, what, at, self.size)
            if isinstance(content, Compressed) and not content.whole():
                self.broken = content.broken or "it ends in the middle"
        finally:
            content.close()

    def _lz4(self) -> Iterator[bytes]:
        try:
            with pa.CompressedInputStream(pa.OSFile(str(self.path)), "lz4") as stream:
                while block := stream.read(BLOCK):
                    yield block
        except (OSError, pa.ArrowException) as error:
            self.broken = str(error)

    def head(self, count: int = 1 << 16) -> bytes:
        """The first bytes of what is in it."""
        kept = b""
        for block in self.blocks():
            kept += block
            if len(kept) >= count:
                break
        return kept[:count]
