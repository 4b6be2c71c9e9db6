"""The spool: a folder that a server's WAL is received into, and that is carried from there into the archive."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from atalaia.backup.site import Site
from atalaia.backup.vault.place import Damaged
from atalaia.backup.wal import segment
from atalaia.backup.wal.archive import Archive, OtherWal
from atalaia.backup.wal.segment import PARTIAL, Segment


def folder_of(site: Site, server: str, system: str) -> Path:
    """Where a system's WAL is received, created private."""
    path = site.catalogue.parent / "wal" / server / system
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


@dataclass(slots=True)
class Spool:
    """`timeline` is the server's; `every`: seconds between two uploads of the segment being received.

    `archived` is the position carried so far.
    """

    folder: Path
    timeline: int
    segment_size: int
    every: float
    archived: int | None = None
    archived_at: datetime | None = None
    _partial: str = ""
    _seen: tuple[int, int] = (0, 0)
    _length: int = 0
    _last: float = -1e9

    def files(self) -> list[str]:
        """Whole segments and histories, in the order of their positions; histories first."""
        names = [path.name for path in self.folder.iterdir()]
        chosen = [name for name in names if segment.is_segment(name) or segment.is_history(name)]
        return sorted(chosen, key=lambda name: (not segment.is_history(name), name[8:], name))

    def partials(self) -> list[str]:
        """Segments being received: the newest last."""
        names = (path.name for path in self.folder.iterdir())
        return sorted((name for name in names if segment.is_partial(name)), key=lambda name: (name[:8], name))

    def next(self) -> Segment | None:
        """The segment that receiving goes on with: the newest partial one, or the one behind the newest whole one."""
        wholes = [segment.parse(name, self.segment_size).next for name in self.files() if segment.is_segment(name)]
        partials = [segment.parse(name.removesuffix(PARTIAL), self.segment_size) for name in self.partials()]
        return max([*wholes, *partials], key=lambda each: (each.number, each.timeline), default=None)

    @property
    def bytes(self) -> int:
        """What waits to be carried, besides the segment being received."""
        total = 0
        for name in self.files():
            with contextlib.suppress(FileNotFoundError):
                total += (self.folder / name).stat().st_size
        return total

    def reach(self, timeline: int, position: int) -> None:
        """All up to `position` is archived; of a timeline that was left it says nothing."""
        if timeline == self.timeline:
            self.archived = max(self.archived or 0, position)

    def carry(self, archive: Archive) -> None:
        """Archive all that is whole and remove it here. Raises OtherWal, Damaged, PlaceError."""
        for name in self.files():
            path = self.folder / name
            raw = path.read_bytes()
            at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            archive.store(name, raw, at)
            path.unlink()
            if segment.is_segment(name):
                self.archived_at = at
                whole = segment.parse(name, self.segment_size)
                self.reach(whole.timeline, whole.end)
                if name == self._partial.removesuffix(PARTIAL):
                    self._partial = ""

    def carry_partial(self, archive: Archive, received: int | None, now: bool = False) -> None:
        """Archive the segment being received, when it grew and `every` seconds have passed, or `now`.

        `received` is the position that the server knows to be in the file. Raises as `carry`.
        """
        *old, newest = self.partials() or [""]
        for name in old:
            # Of a timeline that was left: nothing will be added to it.
            self._put(archive, name, received=None)
            (self.folder / name).unlink()
        if newest and (now or time.monotonic() - self._last >= self.every):
            self._put(archive, newest, received)
            self._last = time.monotonic()

    def clear(self) -> None:
        """Remove what is being received; all that is whole must have been carried."""
        for name in self.partials():
            (self.folder / name).unlink()

    def begin_at(self, wanted: Segment) -> None:
        """Let receiving begin with a segment: pg_receivewal goes on at the beginning of the newest partial one."""
        (self.folder / f"{wanted.name}{PARTIAL}").touch(mode=0o600)

    def _put(self, archive: Archive, name: str, received: int | None) -> None:
        path = self.folder / name
        try:
            status = path.stat()
            seen = (status.st_mtime_ns, status.st_size)
            if name == self._partial and seen == self._seen:
                self._reached(name, self._length, received)
                return
            raw = path.read_bytes().rstrip(b"\0")
        except FileNotFoundError:
            return  # it became whole in between
        if name != self._partial:
            self._length = _known(archive, name, raw)
        self._partial, self._seen = name, seen
        if len(raw) > self._length:
            at = datetime.now(UTC)
            archive.store_partial(name, raw, at)
            self._length, self.archived_at = len(raw), at
        self._reached(name, self._length, received)

    def _reached(self, name: str, length: int, received: int | None) -> None:
        each = segment.parse(name.removesuffix(PARTIAL), self.segment_size)
        self.reach(each.timeline, each.start + length)
        # The last bytes may be zeros: then the server knows better how far it goes.
        if received is not None and each.start <= received <= each.end and self._seen:
            self.reach(each.timeline, received)


def _known(archive: Archive, name: str, raw: bytes) -> int:
    """How much of a partial segment is archived already. Raises OtherWal when that is not how `raw` begins."""
    if segment.parse(name.removesuffix(PARTIAL), archive.segment_size) not in archive.partials:
        return 0
    try:
        before = archive.read(name)
    except Damaged:
        return 0
    if raw.startswith(before[: len(raw)]) or before.startswith(raw):
        return len(before)
    raise OtherWal(
        f"{archive.place.address}/{archive.object_of(name)} is there with other contents",
        "the server went back in time without a new timeline, or two servers have one identity: "
        "give this one another name in atalaia.toml, and make a physical backup of it",
    )
