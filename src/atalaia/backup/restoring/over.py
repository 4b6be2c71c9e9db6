"""Restores over an old server: beside it first, then the two directories change places at once."""

from __future__ import annotations

import ctypes
import logging
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from atalaia.backup.model import Backup, Progress, Restored, Wanted, logfmt
from atalaia.backup.restore import RESTORING, restore_to
from atalaia.backup.site import Site
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.state import sync_directory
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster

_AT_FDCWD, _EXCHANGE = -100, 2  # renameat2(2)
_log = logging.getLogger("atalaia.backup")


def fresh_directory(cluster: Cluster) -> Path:
    """Where the new server is made while the old one goes on: beside it, on the same file system."""
    return cluster.directory.with_name(f"{cluster.directory.name}.restoring")


def check(cluster: Cluster, backup: Backup) -> None:
    """Raise InputError, before anything is changed, when the backup cannot take this server's place."""
    if backup.major != cluster.installation.major:
        raise InputError(
            f"{backup.id} is of PostgreSQL {backup.major}, and {cluster.name} is {cluster.installation.major}",
            f"set `version = {backup.major}` for {cluster.name} in atalaia.toml, or restore into a new server",
        )
    if not cluster.directory.is_dir():
        return
    with tempfile.TemporaryDirectory(dir=cluster.directory.parent, prefix=".exchange-") as folder:
        first, second = Path(folder) / "1", Path(folder) / "2"
        first.mkdir()
        second.mkdir()
        _exchange(first, second)


def prepare(site: Site, backup: Backup, wanted: Wanted, cluster: Cluster, progress: Progress) -> Restored:
    """Make the new server beside the old one, with the password that the environment knows for it."""
    fresh = fresh_directory(cluster)
    if fresh.is_dir() and any(fresh.iterdir()) and not (fresh / RESTORING).exists():
        # A swap was ended between its two steps: what lies there is a whole server, old or new.
        kept = aside_of(cluster)
        fresh.rename(kept)
        progress(f"{fresh} held a whole server, left by a restore that was ended in the middle; it is now {kept}")
    return restore_to(site, backup, fresh, False, progress, wanted, cluster.password_file)


def swap(cluster: Cluster) -> Path:
    """Put the new server into the place of the old one, which must be stopped; where the old one lies now.

    At no moment is there no server in that place. Raises AtalaiaError when the server runs.
    """
    fresh, aside = fresh_directory(cluster), aside_of(cluster)
    _stopped(cluster)
    _relink(fresh, cluster.directory)
    if cluster.directory.is_dir():
        _exchange(fresh, cluster.directory)
        fresh.rename(aside)
    else:
        fresh.rename(cluster.directory)
    sync_directory(cluster.directory.parent)
    _log.info(logfmt("server_replaced", server=cluster.name, old=aside))
    return aside


def swap_back(cluster: Cluster, aside: Path) -> Path:
    """The old server into its place again; where the restored one lies now."""
    _stopped(cluster)
    failed = cluster.directory.with_name(f"{cluster.directory.name}.failed-{_now()}")
    if not aside.is_dir():
        return cluster.directory
    _exchange(aside, cluster.directory)
    aside.rename(failed)
    _relink(failed, failed)
    sync_directory(cluster.directory.parent)
    _log.warning(logfmt("server_put_back", server=cluster.name, restored=failed))
    return failed


def aside_of(cluster: Cluster) -> Path:
    """Where an old server goes: beside the new one, with the time in its name."""
    return cluster.directory.with_name(f"{cluster.directory.name}.before-{_now()}")


def size_of(directory: Path) -> int:
    """Bytes of a server's files; what goes away meanwhile does not count."""
    total = 0
    for folder, _, files in os.walk(directory):
        for name in files:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total


def _now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}"


def _stopped(cluster: Cluster) -> None:
    if found := control.postmaster(cluster):
        raise AtalaiaError(f"{cluster.name} still runs (PID {found.pid})", "nothing was replaced; stop it, try again")


def _relink(directory: Path, place: Path) -> None:
    """Let links to tablespaces inside a server's directory lead to where that directory will be."""
    for link in (directory / "data" / "pg_tblspc").glob("*"):
        if not link.is_symlink():
            continue
        lead = link.readlink()
        if lead.parent.name == "tablespaces" and (directory / "tablespaces" / lead.name).is_dir():
            owner = link.lstat()
            link.unlink()
            link.symlink_to(place.resolve() / "tablespaces" / lead.name)
            os.chown(link, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _exchange(first: Path, second: Path) -> None:
    """Let two directories change their names in one step. Raises AtalaiaError where the file system cannot."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.renameat2(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _EXCHANGE):
        number = ctypes.get_errno()
        raise AtalaiaError(
            f"{first} and {second} cannot change places: {os.strerror(number)}",
            "this file system cannot do it in one step; restore with --to, stop the server, move its directory away "
            "and the restored one into its place, then `atalaia up`",
        )
