"""The archive of a server's WAL: `SERVER/wal/SYSTEM/…` of a repository. Order is by position, never by clock."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

import orjson

from atalaia.backup.vault.chunks import Compression
from atalaia.backup.vault.keys import Keyring, WrongKey
from atalaia.backup.vault.place import Damaged, Missing, Place, PlaceError
from atalaia.backup.wal import sealed, segment
from atalaia.backup.wal.sealed import ArchiveKey, Head
from atalaia.backup.wal.segment import HISTORY, PARTIAL, Segment
from atalaia.environment.errors import AtalaiaError

FORMAT = 1
T = TypeVar("T")
_NOTE = "archive.json"
COVERED = "covered.json"
OPEN = ".open"
"""How the object of a partial segment ends; a folder's own unfinished files end in `.partial`."""


class OtherWal(AtalaiaError):
    """What was to be archived does not belong here: another server's, or other contents under a name that is taken."""


def folder_of(server: str) -> str:
    """Where a server's archives lie, one a system identifier."""
    return f"{server}/wal"


def systems(place: Place, server: str) -> list[str]:
    """The system identifiers of which there is WAL. Raises PlaceError."""
    return place.folders(f"{folder_of(server)}/")


@dataclass(slots=True)
class Archive:
    """One system's WAL in one place, read from `spares` where that one fails.

    `wholes`, `partials` and `histories` (timelines) are what there is in any of them.
    """

    place: Place
    server: str
    system: str
    segment_size: int
    keys: dict[str, ArchiveKey]
    sealing: ArchiveKey | None
    compression: Compression
    level: int
    spares: tuple[Place, ...] = ()
    wholes: set[Segment] = field(default_factory=set)
    partials: set[Segment] = field(default_factory=set)
    histories: set[int] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def folder(self) -> str:
        """Where its objects lie."""
        return f"{folder_of(self.server)}/{self.system}"

    def object_of(self, name: str) -> str:
        """The object of a segment, a partial one or a history file."""
        if name.endswith(HISTORY):
            return f"{self.folder}/{name}"
        return f"{self.folder}/{name[:16]}/{name.removesuffix(PARTIAL)}{OPEN if name.endswith(PARTIAL) else ''}"

    def refresh(self) -> None:
        """List again what there is. Raises PlaceError when no place can be listed."""
        wholes: set[Segment] = set()
        partials: set[Segment] = set()
        histories: set[int] = set()
        for name in self.objects():
            name = name.rsplit("/", 1)[-1]
            if segment.is_segment(name):
                wholes.add(segment.parse(name, self.segment_size))
            elif name.endswith(OPEN) and segment.is_segment(name.removesuffix(OPEN)):
                partials.add(segment.parse(name.removesuffix(OPEN), self.segment_size))
            elif segment.is_history(name):
                histories.add(int(name[:8], 16))
        with self._lock:
            self.wholes, self.partials, self.histories = wholes, partials - wholes, histories

    def objects(self, folder: str = "") -> list[str]:
        """Names of the objects of all places that answer. Raises PlaceError, the first one's, when none does."""
        found: dict[str, None] = {}
        errors: list[PlaceError] = []
        places = (self.place, *self.spares)
        for place in places:
            try:
                found |= dict.fromkeys(each.name for each in place.objects(f"{self.folder}/{folder}"))
            except PlaceError as error:
                errors.append(error)
        if len(errors) == len(places):
            raise errors[0]
        return list(found)

    def store(self, name: str, raw: bytes, at: datetime) -> bool:
        """Keep a whole segment or a history file; False when the same is there already.

        Raises OtherWal when it is another server's or contradicts what is there, Damaged when it is no WAL, PlaceError.
        """
        self._check(name, raw)
        self._present()
        where = self.object_of(name)
        there = int(name[:8], 16) in self.histories if segment.is_history(name) else self._segment(name) in self.wholes
        if there:
            found = self._head(self.place, where)
            if found.key and found.key not in self.keys:
                raise WrongKey(
                    f"{self.place.address}/{where} is encrypted with a key that is not at hand",
                    "put the key file that was kept elsewhere in its place: `atalaia backup key import FILE`",
                )
            if found.digest == sealed.digest(raw, self.keys[found.key] if found.key else None):
                return False
            raise OtherWal(
                f"{self.place.address}/{where} is there with other contents",
                "the server went back in time without a new timeline, or two servers have one identity: "
                "give this one another name in atalaia.toml, and make a physical backup of it",
            )
        self.place.put(where, self._sealed(name, raw, at))
        if segment.is_history(name):
            with self._lock:
                self.histories.add(int(name[:8], 16))
            return True
        whole = self._segment(name)
        with self._lock:
            self.wholes.add(whole)
            had = whole in self.partials
            self.partials.discard(whole)
        if had:
            self.place.delete(where + OPEN)
        return True

    def store_partial(self, name: str, raw: bytes, at: datetime) -> None:
        """Keep the beginning of the segment `name` (which ends in `.partial`), in place of a shorter one."""
        self._check(name, raw)
        if self._segment(name) in self.wholes:
            return  # it is received again, and was whole before
        self._present()
        self.place.put(self.object_of(name), self._sealed(name, raw, at))
        with self._lock:
            self.partials.add(self._segment(name))

    def read(self, name: str) -> bytes:
        """The raw bytes, checked. Raises Missing, Damaged, WrongKey, PlaceError."""
        return _first((self.place, *self.spares), lambda place: self._read(place, name))

    def received(self, name: str) -> datetime:
        """When an object's contents were received, by the clock of then. Raises as `read`."""
        return _first((self.place, *self.spares), lambda place: self._head(place, self.object_of(name))).at

    def note_covered(self, at: datetime, position: str, timeline: int) -> None:
        """Note that at this time all of the server's WAL was archived. Raises PlaceError."""
        data = {"format": FORMAT, "at": at.astimezone(UTC).isoformat(), "lsn": position, "timeline": timeline}
        self.place.put(f"{self.folder}/{COVERED}", orjson.dumps(data) + b"\n")

    def covered(self, timeline: int) -> datetime | None:
        """Until when the archive has all of a timeline's WAL; None when that is not known."""
        try:
            found = _first((self.place, *self.spares), partial(note, name=f"{self.folder}/{COVERED}"))
            return datetime.fromisoformat(found["at"]) if found["timeline"] == timeline else None
        except (AtalaiaError, KeyError, ValueError):
            return None

    def forks(self, timeline: int) -> tuple[segment.Fork, ...]:
        """The timelines before one, oldest first; none for one that has no history here."""
        return segment.history(self.read(f"{timeline:08X}{HISTORY}")) if timeline in self.histories else ()

    def _present(self) -> None:
        if self.place.size(f"{self.folder}/{_NOTE}") is None:
            raise PlaceError(f"{self.place.address}/{self.folder} has gone", "see that its disk is mounted")

    def _segment(self, name: str) -> Segment:
        return segment.parse(name.removesuffix(PARTIAL), self.segment_size)

    def _check(self, name: str, raw: bytes) -> None:
        if segment.is_history(name):
            return
        found = segment.header(raw, name)
        wanted = self._segment(name)
        if found.system != self.system:
            raise OtherWal(
                f"{name} is WAL of the system {found.system}, this archive is that of {self.system}",
                f"two servers are called {self.server}: give one of them another name in atalaia.toml",
            )
        if found.size != self.segment_size:
            raise OtherWal(
                f"{name} has segments of {found.size} bytes, this archive of {self.segment_size}",
                f"make a physical backup and remove {self.place.address}/{self.folder} when it is no longer needed",
            )
        if found.position != wanted.start or (not name.endswith(PARTIAL) and len(raw) != self.segment_size):
            raise Damaged(f"{name} does not hold what its name says", "it was not archived; look at the spool's disk")

    def _sealed(self, name: str, raw: bytes, at: datetime) -> bytes:
        return sealed.seal(name, self.system, raw, self.sealing, self.compression, self.level, at)

    def _read(self, place: Place, name: str) -> bytes:
        where = self.object_of(name)
        return sealed.unseal(place.read(where), name, self.system, self.keys, f"{place.address}/{where}")[1]

    def _head(self, place: Place, where: str) -> Head:
        size = place.size(where)
        if size is None:
            raise Missing(f"{place.address}/{where} is missing", "take it from another repository")
        # A gigabyte's segment has 256 chunks; the header of it is longer.
        length = min(size, sealed.HEAD if self.segment_size <= 64 << 20 else 8 * sealed.HEAD)
        return sealed.head(place.read(where, 0, length), f"{place.address}/{where}")[0]


def _first(places: Sequence[Place], ask: Callable[[Place], T]) -> T:
    failed: AtalaiaError | None = None
    for place in places:
        try:
            return ask(place)
        except (PlaceError, Damaged) as error:
            # That a spare has not got it says less than what is wrong with the first.
            failed = failed or error
    assert failed
    raise failed


def open_archive(
    place: Place,
    server: str,
    system: str,
    keyring: Keyring | None,
    *,
    segment_size: int | None = None,
    sealing: Keyring | None = None,
    compression: Compression = "zstd",
    level: int = 1,
    spares: tuple[Place, ...] = (),
) -> Archive | None:
    """The archive of a system; with `segment_size` it is made when there is none and may be written to.

    None when there is none. With `sealing` new objects are encrypted. Raises Damaged, WrongKey, PlaceError, OtherWal.
    """
    folder = f"{folder_of(server)}/{system}"
    places = (place, *spares)
    try:
        # Asked for its size first: of an empty repository nothing can be read.
        if segment_size is not None and place.size(f"{folder}/{_NOTE}") is None:
            raise Missing(f"{place.address}/{folder} is missing", "it is made")
        about = _first(places, lambda each: note(each, f"{folder}/{_NOTE}"))
    except Missing:
        if segment_size is None:
            return None
        about = {"format": FORMAT, "system": system, "segment_size": segment_size}
        place.put(f"{folder}/{_NOTE}", orjson.dumps(about) + b"\n")
    if segment_size not in (None, about["segment_size"]):
        raise OtherWal(
            f"{server} has WAL segments of {segment_size} bytes, its archive of {about['segment_size']}",
            f"move {place.address}/{folder} away, and make a physical backup",
        )
    archive = Archive(place, server, system, about["segment_size"], {}, None, compression, level, spares)
    if keyring is not None:
        for found in archive.objects("keys/"):
            name = found.rsplit("/", 1)[-1].removesuffix(".json")
            wrapped = _first(places, partial(note, name=found))["encryption"]
            # What is sealed with a key that is gone says so when it is read.
            with suppress(WrongKey):
                archive.keys[name] = ArchiveKey(name, keyring.unwrap(wrapped, name))
    if sealing is not None and segment_size is not None:
        archive.sealing = next(iter(archive.keys.values()), None)
        if archive.sealing is None:
            key = archive.sealing = ArchiveKey(os.urandom(8).hex(), os.urandom(32))
            data = {"format": FORMAT, "id": key.id, "encryption": sealing.wrap(key.secret, key.id)}
            place.put(f"{folder}/keys/{key.id}.json", orjson.dumps(data) + b"\n")
            archive.keys[key.id] = key
    archive.refresh()
    return archive


def note(place: Place, name: str) -> dict[str, Any]:
    """A small JSON object of an archive. Raises Missing, Damaged, PlaceError."""
    try:
        found = orjson.loads(place.read(name))
        if found["format"] > FORMAT:
            raise AtalaiaError(f"{place.address}/{name} was written by a newer Atalaia", "use that version")
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{place.address}/{name} is damaged", "take it from another repository") from error
    return dict(found)
