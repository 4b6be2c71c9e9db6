"""Removes what retention lets go, from all repositories, and what killed work has left there.

A removal is noted first, then the manifest goes, then the rest, then the row: killed anywhere, the next one ends it,
and nothing that is half gone is called a backup.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from atalaia.backup import catalogue, evidence, underway
from atalaia.backup.keeping import orphans
from atalaia.backup.keeping.guard import removing
from atalaia.backup.keeping.horizon import Horizon, horizons
from atalaia.backup.keeping.orphans import Orphan, erase
from atalaia.backup.keeping.retention import REMOVED, Fate, decide, half_gone
from atalaia.backup.model import Backup, Progress, State, logfmt
from atalaia.backup.site import Site
from atalaia.backup.vault.place import Place, PlaceError
from atalaia.backup.wal import extent
from atalaia.environment.errors import AtalaiaError
from atalaia.runtime.zone import local_zone

_log = logging.getLogger("atalaia.backup")
_SERVER = re.compile("[a-z][a-z0-9_]*")  # as in settings


@dataclass(slots=True)
class Pruned:
    """What was removed, or would be. `problems`: what could not be; `skipped`: servers that are in use, and why."""

    fates: list[Fate] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    orphans: list[Orphan] = field(default_factory=list)
    unknown: list[Orphan] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    wal: dict[str, list[Horizon]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Stored bytes of the backups that go, in one repository."""
        return sum(fate.backup.size for fate in self.fates if not fate.stays)


def prune(
    site: Site, progress: Progress, servers: Sequence[str] = (), *, dry_run: bool = False, now: datetime | None = None
) -> Pruned:
    """Apply the site's retention (default: to all servers); with `dry_run` only say what would be done.

    A server whose backups are in use is skipped. Raises AtalaiaError when the catalogue cannot be used.
    """
    now = now or datetime.now(UTC)
    if not dry_run:
        underway.recover(site, progress)
    known = catalogue.list_backups(site.catalogue)
    result = Pruned()
    for server in servers or sorted({backup.server for backup in known} | _kept_for(site, result)):
        if dry_run:
            _judge(site, server, known, now, result)
            continue
        with removing(site, server) as alone:
            if not alone:
                result.skipped[server] = "its backups are in use: one is being made, tested, copied or restored"
                progress(f"{server}: {result.skipped[server]}; nothing was removed")
                continue
            # Read again: what was in use may have ended, and changed.
            going = _judge(site, server, catalogue.list_backups(site.catalogue), now, result)
            # WAL first: what it is needed for is found in the backups' rows. What is built on others goes before them.
            _prune_wal(site, server, progress, result)
            for backup in reversed(going):
                _remove(site, backup, progress, result)
            _sweep(site, server, progress, result)
    return result


def _kept_for(site: Site, result: Pruned) -> set[str]:
    """Servers that have anything in a repository; what has no server's name is not ours."""
    found: set[str] = set()
    for place in _places(site):
        try:
            found |= {name for name in place.folders() if _SERVER.fullmatch(name)}
        except PlaceError as error:
            result.problems.append(error.what)
    return found


def _places(site: Site) -> tuple[Place, ...]:
    return (site.repository, *site.copies)


def _judge(site: Site, server: str, known: list[Backup], now: datetime, result: Pruned) -> list[Backup]:
    """Add a server's fates, orphans and horizon to the result; the backups that go, oldest first."""
    own = [backup for backup in known if backup.server == server]
    fates = decide(own, site.settings.retention, now, local_zone())
    result.fates += fates
    by_id = {backup.id: backup for backup in own}
    for place in _places(site):
        try:
            for orphan in orphans.find(place, server, by_id, now):
                (result.unknown if orphan.whole else result.orphans).append(orphan)
        except PlaceError as error:
            if error.what not in result.problems:
                result.problems.append(error.what)
    result.wal[server] = horizons(fates, site.settings.retention, now)
    return [fate.backup for fate in fates if not fate.stays]


def _remove(site: Site, backup: Backup, progress: Progress, result: Pruned) -> None:
    try:
        for place in _places(site) if not half_gone(backup) else ():
            _see(site, place, backup)
        catalogue.put(site.catalogue, replace(backup, state=State.FAILED, error=REMOVED))
        for place in _places(site):
            erase(place, backup.folder)
    except PlaceError as error:
        result.problems.append(f"{backup.id} is not removed everywhere: {error.what}")
        _log.error(logfmt("remove_failed", backup=backup.id, server=backup.server, problem=error.what))
        return
    catalogue.forget(site.catalogue, backup)
    result.removed.append(backup.id)
    progress(f"{backup.id}: removed ({backup.size} bytes)")
    _log.info(
        logfmt("backup_removed", backup=backup.id, server=backup.server, bytes=backup.size, was=backup.state.value)
    )


def _see(site: Site, place: Place, backup: Backup) -> None:
    """Raise PlaceError when all of a repository is gone that has the backup: a disk that is not mounted now."""
    here = bool(backup.sha256) if place is site.repository else place.address in {c.repository for c in backup.copies}
    if here and not place.folders():
        raise PlaceError(
            f"the repository {place.address} is not there, or holds nothing", "see that its disk is mounted"
        )


def _sweep(site: Site, server: str, progress: Progress, result: Pruned) -> None:
    by_address = {place.address: place for place in _places(site)}
    for orphan in result.orphans:
        if not orphan.folder.startswith(f"{server}/"):
            continue
        try:
            erase(by_address[orphan.repository], orphan.folder)
        except PlaceError as error:
            result.problems.append(error.what)
            continue
        progress(f"removed {orphan.name}, which was no backup ({orphan.objects} objects, {orphan.size} bytes)")
        _log.info(logfmt("orphan_removed", server=server, folder=orphan.name, bytes=orphan.size))


def _prune_wal(site: Site, server: str, progress: Progress, result: Pruned) -> None:
    """Let the archive go before its horizons."""
    for found in result.wal.get(server, ()):
        try:
            removed = extent.prune(site, server, found.system, found.lsn)
        except AtalaiaError as error:
            result.problems.append(f"WAL of {server} is not removed: {error.what}")
            return
        if removed:
            until = f"before {found.lsn}, where {found.backup} begins" if found.lsn else f"of system {found.system}"
            progress(f"{server}: {len(removed)} objects of WAL {until}, removed")
            _log.info(logfmt("wal_removed", server=server, system=found.system, before=found.lsn, objects=len(removed)))


def mark(site: Site, backup: Backup, keep: str) -> Backup:
    """Let retention leave a backup: `keep` is `forever`, a date, or empty to take the mark away; as it is then."""
    catalogue.mark(site.catalogue, backup, keep)
    _log.info(logfmt("backup_marked", backup=backup.id, server=backup.server, keep=keep or "none"))
    marked = replace(backup, keep=keep)
    evidence.publish(site, marked)
    return marked
