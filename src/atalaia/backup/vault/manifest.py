"""The manifest of a backup, written last: its objects, and an index of its members (docs/backup-format.md)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import Any

import orjson

from atalaia.backup.vault.place import Damaged
from atalaia.environment.errors import AtalaiaError

FORMAT = 1
NAME = "manifest.json"
INDEX = "index"
# The index is one chunk, whose number no chunk of a member reaches.
INDEX_NUMBER = (1 << 64) - 1
_SIGNED = ("format", "id", "compression", "packs", "index", "facts")


@dataclass(frozen=True, slots=True)
class Chunk:
    """Where a chunk lies: object `pack` (position in Manifest.packs) at `offset`, `stored` bytes; `size` raw bytes.

    `digest` is the XXH3 (64 bits) of what is stored: chance damage to a chunk in clear is told without reading a pack.
    """

    number: int
    pack: int
    offset: int
    stored: int
    size: int
    digest: int


@dataclass(frozen=True, slots=True)
class Member:
    """A named stream of a backup: its chunks in order. `facts` are its writer's (rows, digests)."""

    name: str
    chunks: tuple[Chunk, ...]
    facts: dict[str, Any]

    @property
    def size(self) -> int:
        """Raw bytes."""
        return sum(chunk.size for chunk in self.chunks)


@dataclass(frozen=True, slots=True)
class Pack:
    """An object of a backup, as it is stored."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """`facts` stand in clear (they identify a backup); `details` are sealed with the index (they tell what is in it).

    `encryption` is what Keyring.wrap returned, or empty.
    """

    identifier: str
    compression: str
    encryption: dict[str, str]
    packs: tuple[Pack, ...]
    index: Pack
    facts: dict[str, Any]

    @property
    def size(self) -> int:
        """Stored bytes of all its objects but the manifest."""
        return self.index.size + sum(pack.size for pack in self.packs)


def encode(manifest: Manifest, key: bytes | None) -> bytes:
    """The manifest's bytes: with its own checksum, and a MAC when there is a data key."""
    data = _plain(manifest)
    data["sha256"] = hashlib.sha256(_signed(data)).hexdigest()
    if key:
        data["mac"] = _mac(data, key)
    data["check"] = _check(data)
    return _written(data)


def digest(manifest: Manifest) -> str:
    """SHA-256 of what it says; a key rotation, which changes the wrapping alone, leaves it as it was."""
    return hashlib.sha256(_signed(_plain(manifest))).hexdigest()


def decode(data: bytes, where: str) -> Manifest:
    """A manifest again, as it was written; `check` says by whom. Raises Damaged; AtalaiaError: newer format."""
    try:
        found = orjson.loads(data)
        if found["format"] > FORMAT:
            raise AtalaiaError(
                f"{where} was written by a newer Atalaia (format {found['format']}, this one knows {FORMAT})",
                "use that version",
            )
        if found["check"] != _check(found) or _written(found) != data:
            raise ValueError("not as it was written")
        return Manifest(
            found["id"],
            found["compression"],
            found["encryption"],
            tuple(Pack(**pack) for pack in found["packs"]),
            Pack(**found["index"]),
            found["facts"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{where} is damaged", "restore another backup, or from another repository") from error


def check(data: bytes, key: bytes, where: str) -> None:
    """Raise Damaged unless the MAC of an encrypted backup's manifest is right."""
    found = orjson.loads(data)
    if not hmac.compare_digest(str(found.pop("mac", "")), _mac(found, key)):
        raise Damaged(f"{where} was changed", "restore another backup, or from another repository")


def rewrapped(manifest: Manifest, encryption: dict[str, str]) -> Manifest:
    """The manifest after a key rotation: the same data key under another repository key."""
    return replace(manifest, encryption=encryption)


def encode_index(members: list[Member], details: dict[str, Any]) -> bytes:
    """The index before it is sealed: members with their chunks as columns."""
    return orjson.dumps(
        {
            "details": details,
            "members": [
                {
                    "name": member.name,
                    "facts": member.facts,
                    "numbers": [c.number for c in member.chunks],
                    "packs": [c.pack for c in member.chunks],
                    "offsets": [c.offset for c in member.chunks],
                    "stored": [c.stored for c in member.chunks],
                    "sizes": [c.size for c in member.chunks],
                    "digests": [c.digest for c in member.chunks],
                }
                for member in members
            ],
        },
        option=orjson.OPT_SORT_KEYS,
    )


def decode_index(data: bytes) -> tuple[dict[str, Member], dict[str, Any]]:
    """Members by name, in the order they were begun, and the details."""
    found = orjson.loads(data)
    members = {}
    for one in found["members"]:
        columns = (one[name] for name in ("numbers", "packs", "offsets", "stored", "sizes", "digests"))
        members[one["name"]] = Member(one["name"], tuple(map(Chunk, *columns)), one["facts"])
    return members, found["details"]


def _plain(manifest: Manifest) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "id": manifest.identifier,
        "compression": manifest.compression,
        "encryption": manifest.encryption,
        "packs": [_pack(pack) for pack in manifest.packs],
        "index": _pack(manifest.index),
        "facts": manifest.facts,
    }


def _pack(pack: Pack) -> dict[str, Any]:
    return {"name": pack.name, "size": pack.size, "sha256": pack.sha256}


def _written(data: dict[str, Any]) -> bytes:
    return orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"


def _check(data: dict[str, Any]) -> str:
    """Covers the wrapping too: a key that is not in the key file and one that was misread are told apart."""
    rest = {name: value for name, value in data.items() if name != "check"}
    return hashlib.sha256(orjson.dumps(rest, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _signed(data: dict[str, Any]) -> bytes:
    """All but the checksums and the wrapping, which a key rotation changes."""
    signed = {name: value for name, value in data.items() if name in _SIGNED}
    return orjson.dumps(signed, option=orjson.OPT_SORT_KEYS)


def _mac(data: dict[str, Any], key: bytes) -> str:
    own = hmac.new(key, b"atalaia manifest", hashlib.sha256).digest()
    return hmac.new(own, _signed(data), hashlib.sha256).hexdigest()
