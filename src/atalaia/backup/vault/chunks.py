"""Chunks: at most 4 MiB of a member, compressed by itself, then sealed with AES-256-GCM when there is a key.

Each chunk of a backup has a number of its own, which is its nonce: the data key is never used for another backup.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import cramjam
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from atalaia.backup.vault.place import Damaged

SIZE = 4 << 20
Compression = Literal["zstd", "lz4", "none"]


@dataclass(frozen=True, slots=True)
class Codec:
    """How chunks are written: `key` None leaves them in clear, whole zstd or LZ4 frames that any tool reads."""

    compression: Compression
    level: int
    key: bytes | None
    identifier: str
    _cipher: AESGCM | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_cipher", AESGCM(self.key) if self.key else None)

    def seal(self, number: int, raw: bytes | bytearray | memoryview) -> bytes:
        """Compress and encrypt one chunk; all of it runs without the interpreter's lock."""
        if self.compression == "zstd":
            stored = bytes(cramjam.zstd.compress(raw, self.level))
        elif self.compression == "lz4":
            stored = bytes(cramjam.lz4.compress(raw, self.level))
        else:
            stored = bytes(raw)
        return self._cipher.encrypt(_nonce(number), stored, self.identifier.encode()) if self._cipher else stored

    def open(self, number: int, stored: bytes, size: int | None = None) -> bytes:
        """The bytes of a chunk again, which must be `size` where that is known. Raises Damaged."""
        try:
            if self._cipher:
                stored = self._cipher.decrypt(_nonce(number), stored, self.identifier.encode())
            if self.compression == "zstd":
                raw = bytes(cramjam.zstd.decompress(stored, output_len=size))
            elif self.compression == "lz4":
                raw = bytes(cramjam.lz4.decompress(stored, output_len=size))
            else:
                raw = bytes(stored)
        except (InvalidTag, cramjam.DecompressionError, ValueError) as error:
            raise Damaged(
                f"chunk {number} of {self.identifier} is damaged", "restore another backup, or from another repository"
            ) from error
        if size is not None:
            self._check(number, len(raw), size)
        return raw

    def open_into(self, number: int, stored: bytes, size: int, buffer: bytearray) -> None:
        """The `size` bytes of a chunk again, at the beginning of `buffer`. Raises Damaged."""
        try:
            if self._cipher:
                stored = self._cipher.decrypt(_nonce(number), stored, self.identifier.encode())
            if self.compression == "zstd":
                found = int(cramjam.zstd.decompress_into(stored, buffer))
            elif self.compression == "lz4":
                found = int(cramjam.lz4.decompress_into(stored, buffer))
            else:
                found = len(stored)
                buffer[:found] = stored
        except (InvalidTag, cramjam.DecompressionError, ValueError) as error:
            raise Damaged(
                f"chunk {number} of {self.identifier} is damaged", "restore another backup, or from another repository"
            ) from error
        self._check(number, found, size)

    def _check(self, number: int, found: int, size: int) -> None:
        if found != size:
            raise Damaged(
                f"chunk {number} of {self.identifier} has {found} bytes in place of {size}",
                "restore another backup, or from another repository",
            )


def _nonce(number: int) -> bytes:
    return number.to_bytes(12, "big")
