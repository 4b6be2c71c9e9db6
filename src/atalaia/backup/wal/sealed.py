"""One object of the archive: a header in a frame that zstd and lz4 skip, then the chunks (docs/backup-format.md)."""

from __future__ import annotations

import hashlib
import hmac
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, cast

import orjson

from atalaia.backup.vault.chunks import SIZE, Codec, Compression
from atalaia.backup.vault.keys import WrongKey
from atalaia.backup.vault.place import Damaged
from atalaia.environment.errors import AtalaiaError

FORMAT = 1
# RFC 8878, 3.1.2: a skippable frame; the LZ4 frame format knows the same.
_FRAME = struct.Struct("<II")
_SKIPPED = 0x184D2A50
HEAD = 4096
"""Bytes that surely hold the header of a segment of 16 MiB."""


@dataclass(frozen=True, slots=True)
class ArchiveKey:
    """A data key of an archive; each object has a key of its own, made of it and of the object's salt."""

    id: str
    secret: bytes

    def of(self, salt: bytes) -> bytes:
        """The key of one object: it seals nothing else, so that a chunk's number is a fresh nonce."""
        return hmac.new(self.secret, b"atalaia wal object" + salt, hashlib.sha256).digest()

    def digest(self, plain: bytes) -> str:
        """What equal contents have in common, telling nothing of them."""
        return hmac.new(self.secret, b"atalaia wal digest" + plain, hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Head:
    """What an object says of itself; `at` is when it was received (UTC), `size` raw bytes."""

    name: str
    system: str
    size: int
    compression: str
    stored: tuple[int, ...]
    sha256: str
    digest: str
    key: str
    salt: str
    at: datetime

    @property
    def identifier(self) -> str:
        """What its chunks are bound to."""
        return f"{self.system}/{self.name}/{self.size}/{self.digest}"


def digest(raw: bytes | memoryview, key: ArchiveKey | None) -> str:
    """What tells equal contents from others; with a key only for those who have it."""
    plain = hashlib.sha256(raw).digest()
    return key.digest(plain) if key else plain.hex()


def seal(
    name: str, system: str, raw: bytes, key: ArchiveKey | None, compression: Compression, level: int, at: datetime
) -> bytes:
    """The bytes of an object."""
    salt = os.urandom(32) if key else b""
    head = Head(name, system, len(raw), compression, (), "", digest(raw, key), key.id if key else "", salt.hex(), at)
    codec = Codec(compression, level, key.of(salt) if key else None, head.identifier)
    view = memoryview(raw)
    chunks = [
        codec.seal(number, view[offset : offset + SIZE]) for number, offset in enumerate(range(0, len(raw), SIZE))
    ]
    payload = b"".join(chunks)
    data = orjson.dumps(
        {
            "format": FORMAT,
            "name": name,
            "system": system,
            "size": len(raw),
            "compression": compression,
            "stored": [len(chunk) for chunk in chunks],
            "sha256": hashlib.sha256(payload).hexdigest(),
            "digest": head.digest,
            "key": head.key,
            "salt": head.salt,
            "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        }
    )
    return _FRAME.pack(_SKIPPED, len(data)) + data + payload


def head(data: bytes, where: str) -> tuple[Head, int]:
    """The header of an object's beginning, and where the chunks begin. Raises Damaged; AtalaiaError: newer format."""
    try:
        magic, length = _FRAME.unpack_from(data)
        if magic != _SKIPPED or length > len(data) - _FRAME.size:
            raise ValueError("no header")
        found: dict[str, Any] = orjson.loads(data[_FRAME.size : _FRAME.size + length])
        if found.pop("format") > FORMAT:
            raise AtalaiaError(f"{where} was written by a newer Atalaia", "use that version")
        found |= {"stored": tuple(found["stored"]), "at": datetime.fromisoformat(found["at"])}
        bytes.fromhex(found["salt"])
        if not all(isinstance(count, int) for count in (found["size"], *found["stored"])):
            raise ValueError("sizes that are none")
        if min(found["size"], *found["stored"], 0) < 0 or len(found["stored"]) != -(-found["size"] // SIZE):
            raise ValueError("sizes that cannot be")
        return Head(**found), _FRAME.size + length
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise Damaged(f"{where} is damaged: it has no header", _REMEDY) from error


def whole(data: bytes, where: str) -> None:
    """Raise Damaged unless an object is as it was written; needs no key, tells a chance change, not a forged one."""
    found, begin = head(data, where)
    payload = memoryview(data)[begin:]
    if hashlib.sha256(payload).hexdigest() != found.sha256 or sum(found.stored) != len(payload):
        raise Damaged(f"{where} has changed since it was written: its SHA-256 is another", _REMEDY)


def unseal(data: bytes, name: str, system: str, keys: Mapping[str, ArchiveKey], where: str) -> tuple[Head, bytes]:
    """The raw bytes of an object, all checked. Raises Damaged, WrongKey."""
    found, begin = head(data, where)
    if (found.name, found.system) != (name, system):
        raise Damaged(f"{where} is {found.name} of the system {found.system}", "put the objects back where they were")
    whole(data, where)
    payload = memoryview(data)[begin:]
    key = None
    if found.key:
        key = keys.get(found.key)
        if key is None:
            raise WrongKey(
                f"{where} is encrypted with the archive key {found.key}, which is not there or not opened",
                "put the key file that was kept elsewhere in its place, or take it from another repository",
            )
    codec = Codec(
        cast("Compression", found.compression), 1, key.of(bytes.fromhex(found.salt)) if key else None, found.identifier
    )
    parts, offset = [], 0
    for number, length in enumerate(found.stored):
        size = min(SIZE, found.size - number * SIZE)
        parts.append(codec.open(number, bytes(payload[offset : offset + length]), size))
        offset += length
    raw = b"".join(parts)
    if digest(raw, key) != found.digest:
        raise Damaged(f"{where} does not hold what was archived", _REMEDY)
    return found, raw


_REMEDY = "take it from another repository; without it recovery ends before it"
