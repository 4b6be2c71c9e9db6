"""Backups under way: ids, the lock of each server, and what a killed backup left behind."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from atalaia.backup import catalogue
from atalaia.backup.keeping.guard import using
from atalaia.backup.model import Backup, Progress, State, logfmt
from atalaia.backup.site import Site
from atalaia.backup.vault.local import LocalPlace
from atalaia.backup.vault.place import PlaceError
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.temporary import sweep

_log = logging.getLogger("atalaia.backup")


def identifier(site: Site, server: str, at: datetime) -> str:
    """A new backup's id: server and UTC time, so that names sort; `_2` follows for a second one within a second."""
    name = f"{server}_{at.astimezone(UTC):%Y-%m-%dT%H%M%SZ}"
    taken = {backup.id for backup in catalogue.list_backups(site.catalogue)}
    taken |= set(site.repository.folders(f"{server}/"))
    number = 1
    while (found := name if number == 1 else f"{name}_{number}") in taken:
        number += 1
    return found


@contextmanager
def lock(site: Site, server: str) -> Iterator[None]:
    """Hold the server's lock: one backup at a time, and none removed meanwhile. It goes with the process.

    Raises AtalaiaError when another process, or another thread of ours, holds it.
    """
    site.locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = _path(site, server)
    descriptor = _try_lock(path)
    if descriptor is None:
        holder = path.read_text().strip()
        raise AtalaiaError(
            f"a backup of {server} is already running" + (f" (process {holder})" if holder else ""),
            "wait until it has ended; `atalaia backup list` shows it",
        )
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        with using(site, server):
            yield
    finally:
        os.close(descriptor)


def recover(site: Site, progress: Progress, held: str | None = None) -> list[Backup]:
    """Mark failed what killed backups left in state running, and remove their objects; those that were marked.

    A server whose lock is free, or `held` by the caller, has no backup under way, whatever the catalogue says.
    """
    for folder in sweep(site.temporary):
        progress(f"removed {folder.name}, left by a backup or a restore that was killed")
    marked = []
    running = [b for b in catalogue.list_backups(site.catalogue) if b.state is State.RUNNING]
    for server in sorted({backup.server for backup in running}):
        site.locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = None if server == held else _try_lock(_path(site, server))
        if descriptor is None and server != held:
            continue
        try:
            # Read again under the lock: it may have ended well in between.
            again = catalogue.list_backups(site.catalogue)
            marked += [_recover(site, b, progress) for b in again if b.server == server and b.state is State.RUNNING]
        finally:
            if descriptor is not None:
                os.close(descriptor)
    return marked


def discard(site: Site, backup: Backup, progress: Progress) -> bool:
    """Remove the objects of a backup from the repository it was made in, manifest first; whether all are gone."""
    place = site.repository
    try:
        place.delete(f"{backup.folder}/manifest.json")
        for found in list(place.objects(f"{backup.folder}/")):
            place.delete(found.name)
        if isinstance(place, LocalPlace):
            for path in place.partials(f"{backup.folder}/"):
                size = path.stat().st_size
                path.unlink()
                progress(f"removed {path.name}, left by an interrupted backup ({size} bytes)")
            folder = place.root / backup.folder
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    except (PlaceError, OSError) as error:
        # What is left is no backup; `backup prune` looks for it again.
        _log.warning(logfmt("objects_left", backup=backup.id, problem=error))
        return False
    return True


def _recover(site: Site, backup: Backup, progress: Progress) -> Backup:
    # Its objects may be whole: without a row that says complete they are no backup.
    discard(site, backup, progress)
    failed = replace(
        backup,
        state=State.FAILED,
        finished=datetime.now(UTC),
        error="interrupted: the process that made it was ended",
    )
    catalogue.put(site.catalogue, failed)
    progress(f"{backup.id} had been interrupted: marked failed")
    _log.warning(logfmt("backup_interrupted", backup=backup.id, server=backup.server))
    return failed


def _path(site: Site, server: str) -> Path:
    return site.locks / f"backup-{server}.lock"


def _try_lock(path: Path) -> int | None:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
