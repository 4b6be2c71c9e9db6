"""Copies of backups in further repositories; one that fails does not fail the others, and is tried again."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from atalaia.backup import catalogue, evidence
from atalaia.backup.keeping.guard import using
from atalaia.backup.model import Backup, Copy, Progress, advance, logfmt
from atalaia.backup.site import Site
from atalaia.backup.sources import opened
from atalaia.backup.vault.place import Missing, Place, PlaceError
from atalaia.backup.vault.transfer import give, mirror
from atalaia.backup.wal import archive, sealed
from atalaia.environment.errors import AtalaiaError
from atalaia.environment.units import show_size

_log = logging.getLogger("atalaia.backup")


def copy_backups(site: Site, tell: Progress, identifiers: Sequence[str] = ()) -> list[Backup]:
    """Let every repository have the usable backups (default: all) that it lacks; those backups as they are now.

    What an incremental backup is built on goes first. Named ones are read again where they are; a repository where
    something was found damaged is mended. Raises InputError for an unknown id.
    """
    known = {backup.id: backup for backup in catalogue.list_backups(site.catalogue)}
    chosen: dict[str, Backup] = {}
    for identifier in identifiers or [one.id for one in known.values() if one.usable]:
        backup: Backup | None = catalogue.get(site.catalogue, identifier)
        chain = []
        while backup and backup.usable:
            chain.append(backup)
            backup = known.get(backup.parent)
        chosen |= {one.id: one for one in reversed(chain)}
    dead: dict[str, str] = {}
    return [copy_backup(site, one, tell, dead, thorough=one.id in identifiers) for one in chosen.values()]


def copy_backup(
    site: Site, backup: Backup, tell: Progress, dead: dict[str, str] | None = None, *, thorough: bool = False
) -> Backup:
    """Let every repository have a backup; the backup with its copies noted. What fails is told and noted, not raised.

    `dead` gathers repositories that did not answer: they are not asked again.
    """
    dead = {} if dead is None else dead
    for target in lacking(site, backup, thorough=thorough):
        with using(site, backup.server, tell):
            problem = dead.get(target.address) or _copy(site, backup, target, tell, dead, thorough)
        made = Copy(target.address, datetime.now(UTC), problem)
        catalogue.copied(site.catalogue, backup, made)
        others = tuple(copy for copy in backup.copies if copy.repository != made.repository)
        backup = replace(backup, copies=(*others, made))
        if problem:
            _log.error(logfmt("copy_failed", backup=backup.id, repository=target.address, problem=problem))
            tell(f"{backup.id}: NOT in {target.address}: {problem}; `atalaia backup copy` tries again")
        else:
            evidence.publish(site, backup, (target,))
    return backup


def lacking(site: Site, backup: Backup, *, thorough: bool = False) -> list[Place]:
    """Repositories that have not got a usable backup, or where something was found wrong; with `thorough` all."""
    if not backup.usable:
        return []
    noted = {copy.repository: copy.problem for copy in backup.copies}
    found = [place for place in site.copies if thorough or noted.get(place.address, "not yet")]
    return ([site.repository] if thorough or noted.get(site.repository.address) else []) + found


def copy_wal(site: Site, server: str, tell: Progress) -> dict[str, str]:
    """Let the further repositories have a server's WAL archive; what failed, by address."""
    problems = {}
    for target in site.copies:
        try:
            copied = mirror(site.repository, target, f"{archive.folder_of(server)}/", archive.OPEN, _sound)
        except AtalaiaError as error:
            problems[target.address] = error.what
            _log.error(logfmt("copy_failed", server=server, wal=True, repository=target.address, problem=error.what))
            tell(f"{server}: its WAL is NOT up to date in {target.address}: {error.what}")
        else:
            if copied:
                _log.info(logfmt("wal_copied", server=server, repository=target.address, bytes=copied))
    return problems


def _sound(name: str, data: bytes) -> None:
    """Raise Damaged for an object of an archive that is not as it was written; keys and notes are told when read."""
    if not name.endswith(".json"):
        sealed.whole(data, name)


def note_troubles(site: Site, backup: Backup, troubles: dict[str, str], sound: Sequence[str] = ()) -> Backup:
    """Note what was found wrong in repositories, and that a noted trouble is over in those that are `sound`."""
    noted = {copy.repository: copy for copy in backup.copies}
    now = datetime.now(UTC)
    found = [Copy(address, now, problem) for address, problem in troubles.items()]
    found += [Copy(one, now) for one in sound if one in noted and noted[one].problem and one not in troubles]
    for copy in found:
        catalogue.copied(site.catalogue, backup, copy)
        if copy.problem:
            _log.error(logfmt("copy_damaged", backup=backup.id, repository=copy.repository, problem=copy.problem))
    return replace(backup, copies=tuple((noted | {copy.repository: copy for copy in found}).values()))


def _copy(site: Site, backup: Backup, target: Place, tell: Progress, dead: dict[str, str], thorough: bool) -> str:
    """Copy one backup into one place; what went wrong."""
    try:
        reader = opened(site, backup, tell)
        noted = any(copy.repository == target.address and copy.problem for copy in backup.copies)
        done = 0

        def count(size: int) -> None:
            nonlocal done
            done += size
            advance(tell, f"copying to {target.address}", done, reader.manifest.size)

        copied = give(reader, target, count, thorough=thorough or noted)
    except AtalaiaError as error:
        if isinstance(error, PlaceError) and not isinstance(error, Missing) and target.address in error.what:
            dead[target.address] = error.what
        return error.what
    if copied:
        _log.info(logfmt("backup_copied", backup=backup.id, repository=target.address, bytes=copied))
        tell(f"{backup.id}: copied to {target.address} ({show_size(copied)})")
    return ""
