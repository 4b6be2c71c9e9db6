"""Reads a backup: its manifest, its members as streams with chunks fetched and opened ahead by threads, its damage.

A backup may lie in several places: what one of them lacks, has damaged or does not give is read from another.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import xxhash

from atalaia.backup.vault import manifest as manifests
from atalaia.backup.vault.chunks import Codec, Compression
from atalaia.backup.vault.keys import Keyring, WrongKey
from atalaia.backup.vault.manifest import INDEX_NUMBER, NAME, Chunk, Manifest, Member, Pack
from atalaia.backup.vault.place import Damaged, Missing, Place, PlaceError
from atalaia.environment.errors import AtalaiaError

_AHEAD = 6  # chunks fetched ahead of whoever reads; bounds the memory
_BLOCK = 4 << 20
_ELSEWHERE = "restore another backup, or from another repository"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reader:
    """A backup opened for reading; safe to use from several threads.

    `place` is the one it was opened in, `spares` the others. `troubles` says of each place (by its address) what was
    first found wrong there; those without are asked first.
    """

    place: Place
    folder: str
    manifest: Manifest
    members: dict[str, Member]
    details: dict[str, Any]
    codec: Codec
    spares: tuple[Place, ...] = ()
    troubles: dict[str, str] = field(default_factory=dict)

    @property
    def places(self) -> tuple[Place, ...]:
        """All of them, in the order in which they are to be asked."""
        return tuple(sorted((self.place, *self.spares), key=lambda place: place.address in self.troubles))

    def chunk(self, chunk: Chunk) -> bytes:
        """One chunk's raw bytes. Raises Damaged, PlaceError."""
        name = f"{self.folder}/{self.manifest.packs[chunk.pack].name}"
        return _first_of(self.places, self.troubles, lambda place: self._chunk(place, name, chunk))

    def _chunk(self, place: Place, name: str, chunk: Chunk) -> bytes:
        return self.codec.open(chunk.number, _sound(place, name, chunk), chunk.size)

    def chunk_into(self, chunk: Chunk, buffer: bytearray) -> None:
        """One chunk's raw bytes to the beginning of `buffer`, which has room for them. Raises Damaged, PlaceError.

        A buffer used again saves the pages of a new one for each chunk, which cost more than opening it does.
        """
        name = f"{self.folder}/{self.manifest.packs[chunk.pack].name}"

        def read(place: Place) -> None:
            self.codec.open_into(chunk.number, _sound(place, name, chunk), chunk.size, buffer)

        _first_of(self.places, self.troubles, read)

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
        """What is missing, cut off or changed among the objects, by SHA-256; empty when each is whole in some place.

        `progress` is told of each block's bytes. Raises PlaceError when a place that may have it does not answer.
        """
        found = []
        for pack in (self.manifest.index, *self.manifest.packs):

            def whole(place: Place, pack: Pack = pack) -> None:
                if problem := damaged(place, self.folder, pack, progress):
                    raise Damaged(problem, _ELSEWHERE)

            try:
                _first_of(self.places, self.troubles, whole)
            except Damaged as error:
                found.append(error.what)
        return found


def _sound(place: Place, name: str, chunk: Chunk) -> bytes:
    """A chunk as it is stored. Raises Damaged, PlaceError."""
    stored = place.read(name, chunk.offset, chunk.stored)
    if xxhash.xxh3_64_intdigest(stored) != chunk.digest:
        raise Damaged(f"{place.address}/{name} is damaged at byte {chunk.offset} or after", _ELSEWHERE)
    return stored


def damaged(place: Place, folder: str, pack: Pack, progress: Callable[[int], None] = lambda _: None) -> str:
    """What is wrong with an object in one place, by SHA-256; empty when it is as it was written. Raises PlaceError."""
    name = f"{folder}/{pack.name}"
    where = f"{place.address}/{name}"
    size = place.size(name)
    if size is None:
        return f"{where} is missing"
    if size != pack.size:
        return f"{where} has {size} bytes in place of {pack.size}"
    digest = hashlib.sha256()
    for offset in range(0, size, _BLOCK):
        try:
            block = place.read(name, offset, min(_BLOCK, size - offset))
        except Missing:
            return f"{where} is missing"
        except Damaged as error:
            return error.what
        digest.update(block)
        progress(len(block))
    if digest.hexdigest() != pack.sha256:
        return f"{where} has changed since it was written: SHA-256 is {digest.hexdigest()}, not {pack.sha256}"
    return ""


def look(place: Place, folder: str) -> Manifest:
    """A backup's manifest, in clear. Raises Missing, Damaged, PlaceError."""
    name = f"{folder}/{NAME}"
    return manifests.decode(place.read(name), f"{place.address}/{name}")


def open_backup(
    place: Place, folder: str, keyring: Keyring | None, sha256: str = "", spares: Sequence[Place] = ()
) -> Reader:
    """Open a backup in a place, else in one of `spares`; with `sha256` it must be the one that the catalogue knows.

    Raises Missing, Damaged, WrongKey, PlaceError.
    """
    troubles: dict[str, str] = {}
    reader = _first_of((place, *spares), troubles, lambda one: _open(one, folder, keyring, sha256))
    others = tuple(other for other in (place, *spares) if other is not reader.place)
    return Reader(reader.place, folder, reader.manifest, reader.members, reader.details, reader.codec, others, troubles)


def _open(place: Place, folder: str, keyring: Keyring | None, sha256: str) -> Reader:
    where = f"{place.address}/{folder}/{NAME}"
    data = place.read(f"{folder}/{NAME}")
    manifest = manifests.decode(data, where)
    if manifest.identifier != folder.rsplit("/", 1)[-1]:
        raise Damaged(f"{where} is the manifest of {manifest.identifier}", "put the objects back where they were")
    found = manifests.digest(manifest)
    if sha256 and found != sha256:
        raise Damaged(
            f"{where} has changed since it was written: SHA-256 is {found}, not {sha256}",
            _ELSEWHERE,
        )
    key = None
    if manifest.encryption:
        if keyring is None:
            raise WrongKey(
                f"{manifest.identifier} is encrypted, and there is no key file",
                "put the copy of the key file that was kept elsewhere in its place: `atalaia backup key import FILE`",
            )
        key = keyring.unwrap(manifest.encryption, manifest.identifier)
        manifests.check(data, key, where)
    codec = Codec(cast("Compression", manifest.compression), 1, key, manifest.identifier)
    name = f"{folder}/{manifest.index.name}"
    sealed = place.read(name)
    if hashlib.sha256(sealed).hexdigest() != manifest.index.sha256:
        raise Damaged(f"{place.address}/{name} is damaged", _ELSEWHERE)
    members, details = manifests.decode_index(codec.open(INDEX_NUMBER, sealed))
    return Reader(place, folder, manifest, members, details, codec)


def _first_of(places: Sequence[Place], troubles: dict[str, str], call: Callable[[Place], T]) -> T:
    """What the first place gives that can.

    Otherwise the error that says least of the backup: a place that is away may have it, a damaged one has it not.
    """
    errors: list[AtalaiaError] = []
    for place in places:
        try:
            return call(place)
        except (PlaceError, Damaged, WrongKey) as error:
            errors.append(error)
            troubles.setdefault(place.address, error.what)
    raise min(errors, key=rank)


def rank(error: AtalaiaError) -> int:
    """Which of several places' errors counts: the lower ones leave it open that another place has all of it."""
    if isinstance(error, Damaged):
        return 2
    if isinstance(error, Missing):
        return 3
    return 1 if isinstance(error, WrongKey) else 0
