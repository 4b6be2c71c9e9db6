"""What lies in a repository and is no backup: folders that killed work left, with no manifest and no row."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from atalaia.backup.model import Backup, State
from atalaia.backup.vault.local import LocalPlace
from atalaia.backup.vault.manifest import NAME
from atalaia.backup.vault.place import Place

AGE = timedelta(days=1)
"""Younger ones may be another environment's backup that is being made."""


@dataclass(frozen=True, slots=True)
class Orphan:
    """A folder of a repository: objects and bytes that are no backup, or one that the catalogue does not know."""

    repository: str
    folder: str
    objects: int
    size: int
    whole: bool

    @property
    def name(self) -> str:
        """How people name it."""
        return f"{self.repository}/{self.folder}"


def erase(place: Place, folder: str) -> None:
    """Remove a backup's objects, its manifest first: from then on it is none. Raises PlaceError."""
    place.delete(f"{folder}/{NAME}")
    for found in list(place.objects(f"{folder}/")):
        place.delete(found.name)
    if isinstance(place, LocalPlace):
        with contextlib.suppress(OSError):
            for path in place.partials(f"{folder}/"):
                path.unlink(missing_ok=True)
            (place.root / folder).rmdir()


def find(place: Place, server: str, known: Mapping[str, Backup], now: datetime) -> list[Orphan]:
    """Folders of a server that no backup needs, and whole backups that the catalogue does not know.

    `known`: the catalogue's rows by id. What does not look like ours is left alone. Raises PlaceError.
    """
    ours = re.compile(re.escape(server) + r"_\d{4}-\d\d-\d\dT\d{6}Z(_\d+)?")
    found = []
    for identifier in place.folders(f"{server}/"):
        row = known.get(identifier)
        # A failed one that never was complete has nothing to keep; its removal did not end.
        if not ours.fullmatch(identifier) or (row is not None and (row.state is not State.FAILED or row.sha256)):
            continue
        folder = f"{server}/{identifier}"
        whole = row is None and place.size(f"{folder}/{NAME}") is not None
        times, size, count = _content(place, folder)
        if whole or not times or max(times) < now - AGE:
            found.append(Orphan(place.address, folder, count, size, whole))
    return found


def _content(place: Place, folder: str) -> tuple[list[datetime], int, int]:
    """Times, bytes and number of all objects, those too that were being written."""
    objects = list(place.objects(f"{folder}/"))
    times = [found.modified for found in objects]
    size = sum(found.size for found in objects)
    count = len(objects)
    if isinstance(place, LocalPlace):
        for path in place.partials(f"{folder}/"):
            with contextlib.suppress(FileNotFoundError):
                seen = path.stat()
                times.append(datetime.fromtimestamp(seen.st_mtime, UTC))
                size, count = size + seen.st_size, count + 1
        if not times:
            with contextlib.suppress(FileNotFoundError):
                times.append(datetime.fromtimestamp((place.root / folder).stat().st_mtime, UTC))
    return times, size, count
