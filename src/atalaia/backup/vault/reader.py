"""Reads a backup: its manifest, its members as streams with chunks fetched and opened ahead by threads, its damage."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, cast

from atalaia.backup.vault import manifest as manifests
from atalaia.backup.vault.chunks import Codec, Compression
from atalaia.backup.vault.keys import Keyring, WrongKey
from atalaia.backup.vault.manifest import INDEX_NUMBER, NAME, Chunk, Manifest, Member, Pack
from atalaia.backup.vault.place import Damaged, Missing, Place

_AHEAD = 6  # chunks fetched ahead of whoever reads; bounds the memory
_BLOCK = 4 << 20


@dataclass(frozen=True, slots=True)
class Reader:
    """A backup opened for reading; safe to use from several threads."""

    place: Place
    folder: str
    manifest: Manifest
    members: dict[str, Member]
    details: dict[str, Any]
    codec: Codec

    def chunk(self, chunk: Chunk) -> bytes:
        """One chunk's raw bytes. Raises Damaged, PlaceError."""
        name = f"{self.folder}/{self.manifest.packs[chunk.pack].name}"
        return self.codec.open(chunk.number, self.place.read(name, chunk.offset, chunk.stored), chunk.size)

    def stream(self, name: str, workers: int = 2) -> Iterator[bytes]:
        """A member's raw bytes in order, a chunk at a time. Raises Damaged, PlaceError; KeyError for no such member."""
        yield from self.chunks(self.members[name].chunks, workers)

    def chunks(self, chunks: Sequence[Chunk], workers: int = 2) -> Iterator[bytes]:
        """Raw bytes of some chunks in order, fetched and opened ahead."""
        waiting: deque[Future[bytes]] = deque()
        pool = ThreadPoolExecutor(workers, thread_name_prefix="fetch")
        try:
            for chunk in chunks:
                waiting.append(pool.submit(self.chunk, chunk))
                if len(waiting) >= _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def read(self, name: str) -> bytes:
        """All of a small member."""
        return b"".join(self.stream(name))

    def damage(self, progress: Callable[[int], None] = lambda _: None) -> list[str]:
        """What is missing, cut off or changed among the objects, by SHA-256; empty when they are as they were written.

        `progress` is told of each block's bytes. Raises PlaceError when the place does not answer.
        """
        return [
            problem for pack in (self.manifest.index, *self.manifest.packs) if (problem := self._damage(pack, progress))
        ]

    def _damage(self, pack: Pack, progress: Callable[[int], None]) -> str:
        name = f"{self.folder}/{pack.name}"
        where = f"{self.place.address}/{name}"
        size = self.place.size(name)
        if size is None:
            return f"{where} is missing"
        if size != pack.size:
            return f"{where} has {size} bytes in place of {pack.size}"
        digest = hashlib.sha256()
        for offset in range(0, size, _BLOCK):
            try:
                block = self.place.read(name, offset, min(_BLOCK, size - offset))
            except Missing:
                return f"{where} is missing"
            digest.update(block)
            progress(len(block))
        if digest.hexdigest() != pack.sha256:
            return f"{where} has changed since it was written: SHA-256 is {digest.hexdigest()}, not {pack.sha256}"
        return ""


def look(place: Place, folder: str) -> Manifest:
    """A backup's manifest, in clear. Raises Missing, Damaged, PlaceError."""
    name = f"{folder}/{NAME}"
    return manifests.decode(place.read(name), f"{place.address}/{name}")


def open_backup(place: Place, folder: str, keyring: Keyring | None, sha256: str = "") -> Reader:
    """Open a backup; with `sha256` its manifest must be the one that the catalogue knows.

    Raises Missing, Damaged, WrongKey, PlaceError.
    """
    where = f"{place.address}/{folder}/{NAME}"
    data = place.read(f"{folder}/{NAME}")
    manifest = manifests.decode(data, where)
    if manifest.identifier != folder.rsplit("/", 1)[-1]:
        raise Damaged(f"{where} is the manifest of {manifest.identifier}", "put the objects back where they were")
    found = hashlib.sha256(data).hexdigest()
    if sha256 and found != sha256:
        raise Damaged(
            f"{where} has changed since it was written: SHA-256 is {found}, not {sha256}",
            "restore another backup, or from another repository",
        )
    key = None
    if manifest.encryption:
        if keyring is None:
            raise WrongKey(
                f"{manifest.identifier} is encrypted, and there is no key file",
                "set `key_file` in [backups], or put the copy that was kept elsewhere in its place",
            )
        key = keyring.unwrap(manifest.encryption, manifest.identifier)
        manifests.check(data, key, where)
    codec = Codec(cast("Compression", manifest.compression), 1, key, manifest.identifier)
    sealed = place.read(f"{folder}/{manifest.index.name}")
    if hashlib.sha256(sealed).hexdigest() != manifest.index.sha256:
        raise Damaged(f"{place.address}/{folder}/{manifest.index.name} is damaged", "use another backup or repository")
    members, details = manifests.decode_index(codec.open(INDEX_NUMBER, sealed))
    return Reader(place, folder, manifest, members, details, codec)
