"""Where the files lie in a tar stream, found while it passes, and kept as columns in the member's facts."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from atalaia.backup.vault.place import Damaged

BLOCK = 512
_FILE, _LINK, _FOLDER = b"0", b"2", b"5"


@dataclass(frozen=True, slots=True)
class File:
    """A regular file: `offset` and `size` of its bytes in the stream."""

    name: str
    offset: int
    size: int
    mode: int


@dataclass(frozen=True, slots=True)
class Layout:
    """What is in a tar stream."""

    files: tuple[File, ...] = ()
    folders: tuple[tuple[str, int], ...] = ()
    """Names and modes."""

    def facts(self) -> dict[str, Any]:
        """As a member keeps it; names are bytes, each as one letter of Latin-1."""
        return {
            "names": [file.name for file in self.files],
            "offsets": [file.offset for file in self.files],
            "sizes": [file.size for file in self.files],
            "modes": [file.mode for file in self.files],
            "folders": [list(folder) for folder in self.folders],
        }

    @staticmethod
    def of(facts: dict[str, Any], where: str) -> Layout:
        """The layout of a member's facts. Raises Damaged for names that lead out of the directory."""
        columns = (facts[name] for name in ("names", "offsets", "sizes", "modes"))
        files = (File(os.fsdecode(name.encode("latin-1")), *rest) for name, *rest in zip(*columns, strict=True))
        layout = Layout(tuple(files), tuple((name, mode) for name, mode in facts["folders"]))
        for name in (*(file.name for file in layout.files), *(name for name, _ in layout.folders)):
            if name.startswith("/") or ".." in name.split("/") or "\0" in name:
                raise Damaged(f"{where} has a file with the name {name!r}", "restore another backup")
        return layout


@dataclass(slots=True)
class Follower:
    """Follows the headers of a tar stream fed in blocks of any size."""

    _at: int = 0
    _next: int = 0
    _header: bytearray = field(default_factory=bytearray)
    _files: list[File] = field(default_factory=list)
    _folders: list[tuple[str, int]] = field(default_factory=list)

    def feed(self, data: memoryview) -> None:
        """Look at the next bytes of the stream. Raises ValueError when they are no tar stream of PostgreSQL's."""
        end = self._at + len(data)
        while self._next + len(self._header) < end:
            begin = self._next + len(self._header) - self._at
            self._header += data[begin : begin + BLOCK - len(self._header)]
            if len(self._header) < BLOCK:
                break
            self._take(bytes(self._header))
            self._header.clear()
        self._at = end

    def layout(self) -> Layout:
        """What was in the stream, which has ended. Raises ValueError when it ended in the middle of a file."""
        if self._at < self._next or self._header:
            raise ValueError(f"it ends at byte {self._at} in place of {self._next}")
        return Layout(tuple(self._files), tuple(self._folders))

    def _take(self, header: bytes) -> None:
        begin, self._next = self._next + BLOCK, self._next + BLOCK
        if not any(header):
            return  # the end of the archive: two blocks of zeros
        if header[257:262] != b"ustar" or _number(header[148:156]) != _checksum(header):
            raise ValueError(f"there is no header at byte {begin - BLOCK}")
        name = header[:100].split(b"\0", 1)[0].decode("latin-1").removeprefix("./").rstrip("/")
        kind, mode, size = header[156:157], _number(header[100:108]) & 0o777, _number(header[124:136])
        if kind == _FILE:
            self._files.append(File(name, begin, size, mode))
            self._next = begin + -(-size // BLOCK) * BLOCK
        elif kind == _FOLDER:
            self._folders.append((name, mode))
        elif kind != _LINK:
            raise ValueError(f"{name} is of the unknown type {kind!r}")


def _number(data: bytes) -> int:
    """Octal digits, or base 256 for what is too large for them."""
    if data[0] & 0x80:
        return int.from_bytes(bytes([data[0] & 0x7F]) + data[1:], "big")
    return int(data.strip(b" \0") or b"0", 8)


def _checksum(header: bytes) -> int:
    return sum(header) - sum(header[148:156]) + 8 * ord(" ")
