"""Writes a backup: members side by side, cut into chunks, compressed and sealed by threads, appended to packs."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Any, Self

import xxhash

from atalaia.backup.vault import manifest as manifests
from atalaia.backup.vault.chunks import SIZE, Codec, Compression
from atalaia.backup.vault.keys import Keyring
from atalaia.backup.vault.manifest import INDEX, INDEX_NUMBER, NAME, Chunk, Manifest, Member, Pack
from atalaia.backup.vault.place import Place, PlaceError, Sink

PACK_SIZE = 1 << 30
_AHEAD = 2  # chunks that wait beside those in work; bounds the memory


class Writer:
    """One backup being written below `folder` of a place; a `with` block that `finish` alone makes a backup.

    Left without `finish`, nothing of it stays. Safe to use from several threads, one member each.
    """

    def __init__(
        self,
        place: Place,
        folder: str,
        *,
        compression: Compression,
        level: int,
        keyring: Keyring | None,
        workers: int = os.cpu_count() or 1,
        pack_name: Callable[[int], str] = "data-{:05d}.pack".format,
        pack_size: int = PACK_SIZE,
    ) -> None:
        self.identifier = folder.rsplit("/", 1)[-1]
        self.raw_size = 0
        self._place, self._folder, self._keyring = place, folder, keyring
        key = os.urandom(32) if keyring else None
        self._codec = Codec(compression, level, key, self.identifier)
        self._pack_name, self._pack_size = pack_name, pack_size
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="chunk")
        self._room = threading.Semaphore(workers + _AHEAD)
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._members: dict[str, MemberWriter] = {}
        self._packs: list[Pack] = []
        self._sink: Sink | None = None
        self._size = 0
        self._digest = hashlib.sha256()
        self._failure: BaseException | None = None
        self._finished = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        if not self._finished:
            self.abort()

    def member(self, name: str) -> MemberWriter:
        """Begin a member; its name must be new."""
        member = MemberWriter(self, name)
        with self._lock:
            if self._members.setdefault(name, member) is not member:
                raise ValueError(f"{self.identifier} has a member {name!r} already")
        return member

    @property
    def written(self) -> int:
        """Stored bytes so far."""
        with self._lock:
            return sum(pack.size for pack in self._packs) + self._size

    def finish(self, facts: dict[str, Any], details: dict[str, Any]) -> tuple[Manifest, bytes]:
        """Close what is open and write index and manifest, which is returned with its bytes: now it is a backup.

        Raises PlaceError.
        """
        members = [member.close() for member in self._members.values()]
        with self._lock:
            self._close_pack()
        sealed = self._codec.seal(INDEX_NUMBER, manifests.encode_index(members, details))
        self._place.put(f"{self._folder}/{INDEX}", sealed)
        manifest = Manifest(
            identifier=self.identifier,
            compression=self._codec.compression,
            encryption=self._keyring.wrap(self._codec.key, self.identifier)
            if self._keyring and self._codec.key
            else {},
            packs=tuple(self._packs),
            index=Pack(INDEX, len(sealed), hashlib.sha256(sealed).hexdigest()),
            facts=facts,
        )
        data = manifests.encode(manifest, self._codec.key)
        self._place.put(f"{self._folder}/{NAME}", data)
        self._finished = True
        return manifest, data

    def abort(self) -> None:
        """Remove what was written. Never raises: what cannot be removed is found by `sweep`."""
        with self._lock:
            if self._sink:
                self._sink.abort()
                self._sink = None
            # The manifest first: without it the rest is no backup, whatever can be removed of it.
            remove(self._place, (f"{self._folder}/{name}" for name in (NAME, INDEX, *(p.name for p in self._packs))))

    def restart(self) -> None:
        """Forget all that was written, to begin again; members begun before are void."""
        for member in self._members.values():
            member.abandon()
        self._members.clear()
        self.abort()
        self._packs.clear()
        self._size, self._digest, self.raw_size = 0, hashlib.sha256(), 0

    def count(self, size: int) -> None:
        """Add to the raw bytes of the backup."""
        with self._lock:
            self.raw_size += size

    def submit(self, raw: bytes | memoryview) -> Future[Chunk]:
        """Compress, seal and append a chunk in the background. Raises what an earlier one failed with."""
        self._room.acquire()
        if self._failure:
            self._room.release()
            raise self._failure
        return self._pool.submit(self._work, next(self._numbers), raw)

    def _work(self, number: int, raw: bytes | memoryview) -> Chunk:
        try:
            stored = self._codec.seal(number, raw)
            digest = xxhash.xxh3_64_intdigest(stored)
            with self._lock:
                if self._sink is None:
                    self._sink = self._place.create(f"{self._folder}/{self._pack_name(len(self._packs))}")
                chunk = Chunk(number, len(self._packs), self._size, len(stored), len(raw), digest)
                self._sink.write(stored)
                self._digest.update(stored)
                self._size += len(stored)
                if self._size >= self._pack_size:
                    self._close_pack()
            return chunk
        except BaseException as error:
            self._failure = self._failure or error
            raise
        finally:
            self._room.release()

    def _close_pack(self) -> None:
        if self._sink:
            self._sink.finish()
            self._packs.append(Pack(self._pack_name(len(self._packs)), self._size, self._digest.hexdigest()))
            self._sink, self._size, self._digest = None, 0, hashlib.sha256()


class MemberWriter:
    """A member being written, by one thread."""

    def __init__(self, writer: Writer, name: str) -> None:
        self.name = name
        self.facts: dict[str, Any] = {}
        self.size = 0
        self._writer = writer
        self._pending = bytearray()
        self._chunks: list[Future[Chunk]] = []
        self._closed: Member | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append. Raises PlaceError when the place fails."""
        self.size += len(data)
        self._writer.count(len(data))
        view = memoryview(data)
        while len(view):
            taken = view[: SIZE - len(self._pending)]
            self._pending += taken
            view = view[len(taken) :]
            if len(self._pending) == SIZE:
                self._flush()

    def give(self, block: memoryview) -> Future[Chunk] | None:
        """Append a block of at most a chunk's size without copying it; it is to be left alone until that is done."""
        if self._pending:
            self.write(block)
            return None
        self.size += len(block)
        self._writer.count(len(block))
        self._chunks.append(self._writer.submit(block))
        return self._chunks[-1]

    def close(self) -> Member:
        """Wait until all of it is in packs; the member. Again, it is the same."""
        if self._closed is None:
            if self._pending:
                self._flush()
            self._closed = Member(self.name, tuple(chunk.result() for chunk in self._chunks), self.facts)
        return self._closed

    def abandon(self) -> None:
        """Wait until nothing of it is on its way any more."""
        wait(self._chunks)

    def _flush(self) -> None:
        raw, self._pending = bytes(self._pending), bytearray()
        self._chunks.append(self._writer.submit(raw))


def remove(place: Place, names: Iterable[str]) -> list[str]:
    """Delete objects until the place fails; those that are left."""
    left = list(names)
    with contextlib.suppress(PlaceError):
        while left:
            place.delete(left[0])
            del left[0]
    return left
