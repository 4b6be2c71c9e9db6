"""Makes a lost catalogue again from what the repositories hold: manifests, and the evidence beside them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from atalaia.backup import catalogue, evidence, rows
from atalaia.backup.model import Backup, Copy, Progress, State, logfmt
from atalaia.backup.site import Site
from atalaia.backup.sources import places
from atalaia.backup.vault.keys import WrongKey
from atalaia.backup.vault.manifest import NAME
from atalaia.backup.vault.place import Damaged, Missing, Place, PlaceError
from atalaia.backup.vault.reader import open_backup
from atalaia.environment.errors import AtalaiaError

_log = logging.getLogger("atalaia.backup")
_DUMPS = (".sql.zst", ".sql")


@dataclass(slots=True)
class Rebuilt:
    """`found` are new in the catalogue, `known` were there already; `problems` say what could not be read."""

    found: list[Backup] = field(default_factory=list)
    known: int = 0
    problems: list[str] = field(default_factory=list)


def rebuild(site: Site, progress: Progress) -> Rebuilt:
    """Note every whole backup of the repositories that the catalogue does not know. Rows that are there stay.

    What could not be read is told and left where it is. Raises AtalaiaError when the catalogue cannot be written.
    """
    site.catalogue.parent.mkdir(parents=True, exist_ok=True)
    known = {backup.id: backup for backup in catalogue.list_backups(site.catalogue)}
    result = Rebuilt()
    found: dict[str, Backup] = {}
    for place in places(site):
        progress(f"reading {place.address}")
        try:
            for folder in _folders(place):
                _look(site, place, folder, known, found, result)
            for dump in older(place):
                progress(f"{place.address}/{dump} is of an earlier Atalaia: {BY_HAND}")
        except PlaceError as error:
            result.problems.append(error.what)
    for backup in sorted(found.values(), key=lambda backup: (backup.started, backup.id)):
        # Without this place's row it is known to be in the first repository.
        catalogue.add(site.catalogue, backup)
        result.found.append(backup)
        progress(f"{backup.id}: {backup.state.value}, {backup.rows} rows")
    for problem in result.problems:
        progress(f"NOT read: {problem}")
        _log.warning(logfmt("rebuild_problem", problem=problem))
    _log.info(logfmt("catalogue_rebuilt", found=len(result.found), known=result.known, problems=len(result.problems)))
    return result


def _folders(place: Place) -> Iterator[str]:
    for server in place.folders():
        for identifier in place.folders(f"{server}/"):
            folder = f"{server}/{identifier}"
            if place.size(f"{folder}/{NAME}") is not None:
                yield folder


def _look(
    site: Site, place: Place, folder: str, known: dict[str, Backup], found: dict[str, Backup], result: Rebuilt
) -> None:
    identifier = folder.rsplit("/", 1)[-1]
    first = place is site.repository
    if identifier in known:
        result.known += first
        return
    try:
        backup = rows.found(open_backup(place, folder, site.keyring()))
        backup = evidence.applied(place, backup)
        if backup.folder != folder:
            raise Damaged(f"{place.address}/{folder} is of the server {backup.server}", "put it where it was")
    except (Damaged, Missing, WrongKey) as error:
        result.problems.append(error.what)
        return
    except (KeyError, TypeError, ValueError) as error:
        result.problems.append(f"{place.address}/{folder}/{NAME} lacks {error}")
        return
    other = found.get(identifier)
    if other and other.sha256 != backup.sha256:
        result.problems.append(f"{place.address}/{folder} is not the backup of that name in {site.repository.address}")
        return
    now = datetime.now(UTC)
    if other is None and not first:
        # Only elsewhere: the first repository lacks it, which `atalaia backup copy` mends.
        backup = replace(
            backup, copies=(Copy(site.repository.address, now, "not there when the catalogue was rebuilt"),)
        )
        other = backup
    if other is None:
        found[identifier] = backup
        return
    better = max((other, backup), key=lambda one: (len(one.verifications), one.state is State.VERIFIED))
    copies = (*other.copies, Copy(place.address, now)) if not first else other.copies
    found[identifier] = replace(better, copies=copies)


BY_HAND = "restore it with `zstd -dc FILE | psql -X -v ON_ERROR_STOP=1 -d postgres` into a new server"


def older(place: Place) -> list[str]:
    """Dumps of the format before this one, which lie as files in a server's folder. Raises PlaceError."""
    return [found.name for found in place.objects() if found.name.count("/") == 1 and found.name.endswith(_DUMPS)]


def told_older(site: Site, progress: Progress) -> None:
    """Tell of dumps that an earlier Atalaia made; never fails."""
    try:
        if site.repository.size("catalogue.sqlite") is None:
            return
        dumps = older(site.repository)
    except AtalaiaError:
        return
    if dumps:
        progress(
            f"{len(dumps)} dumps of an earlier Atalaia lie in {site.repository.address}, such as {dumps[-1]}; {BY_HAND}"
        )
