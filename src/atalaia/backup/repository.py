"""The repository's directories: names, the lock of each server, and what a killed backup left behind."""

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
from atalaia.backup.model import Backup, Progress, State, logfmt
from atalaia.environment.errors import AtalaiaError
from atalaia.environment.state import sync_directory

ENDING = ".sql.zst"
PARTIAL = ".partial"
_log = logging.getLogger("atalaia.backup")


def create(repository: Path, server: str) -> Path:
    """The directory of a server's backups, private to us, created when it does not exist."""
    folder = repository / server
    try:
        for path in (repository, folder):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.chmod(0o700)  # dumps hold the roles' password verifiers
    except OSError as error:
        raise AtalaiaError(
            f"{folder} cannot be created: {error.strerror}", "give another `repository` in [backups]"
        ) from error
    return folder


def identifier(folder: Path, server: str, at: datetime) -> str:
    """A new backup's id: server and UTC time, so that names sort; `_2` follows for a second one within a
    second.
    """
    name = f"{server}_{at.astimezone(UTC):%Y-%m-%dT%H%M%SZ}"
    taken = {path.name.split(".")[0] for path in folder.iterdir()}
    known = {backup.id for backup in catalogue.list_backups(folder.parent)}
    number = 1
    while (found := name if number == 1 else f"{name}_{number}") in taken | known:
        number += 1
    return found


@contextmanager
def lock(repository: Path, server: str) -> Iterator[None]:
    """Hold the server's lock: one backup at a time. It goes with the process, however that ends.

    Raises AtalaiaError when another process, or another thread of ours, holds it.
    """
    descriptor = _try_lock(repository / server / "lock")
    if descriptor is None:
        holder = (repository / server / "lock").read_text().strip()
        raise AtalaiaError(
            f"a backup of {server} is already running" + (f" (process {holder})" if holder else ""),
            "wait until it has ended; `atalaia backup list` shows it",
        )
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


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


def recover(repository: Path, progress: Progress, held: str | None = None) -> list[Backup]:
    """Mark failed what killed backups left in state running, and remove their files; those that were marked.

    A server whose lock is free, or `held` by the caller, has no backup under way, whatever the catalogue
    says.
    """
    marked = []
    servers = {path.parent.name for path in repository.glob("*/lock")}
    for server in sorted(servers):
        descriptor = None if server == held else _try_lock(repository / server / "lock")
        if descriptor is None and server != held:
            continue
        try:
            marked += _recover(repository, server, progress)
        finally:
            if descriptor is not None:
                os.close(descriptor)
    return marked


def _recover(repository: Path, server: str, progress: Progress) -> list[Backup]:
    marked = []
    for backup in catalogue.list_backups(repository):
        if backup.server != server or backup.state is not State.RUNNING:
            continue
        # Its file may have its final name: without a row that says complete it is no backup.
        (repository / backup.file).unlink(missing_ok=True)
        failed = replace(
            backup,
            state=State.FAILED,
            finished=datetime.now(UTC),
            error="interrupted: the process that made it was ended",
        )
        catalogue.put(repository, failed)
        marked.append(failed)
        progress(f"{backup.id} had been interrupted: marked failed")
        _log.warning(logfmt("backup_interrupted", backup=backup.id, server=server))
    for path in sorted((repository / server).glob(f"*{PARTIAL}")):
        size = path.stat().st_size
        path.unlink()
        progress(f"removed {path.name}, left by an interrupted backup ({size} bytes)")
        _log.warning(logfmt("partial_removed", file=path.name, server=server, bytes=size))
    sync_directory(repository / server)
    return marked
