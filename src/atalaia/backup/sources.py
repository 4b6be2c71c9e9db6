"""Where a backup is read from: the repository it was made in, else the further ones that have a copy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from atalaia.backup.model import Backup, Progress
from atalaia.backup.site import Site, place_of
from atalaia.backup.vault.place import Place
from atalaia.backup.vault.reader import Reader, open_backup
from atalaia.environment.backing import remote


def places(site: Site) -> tuple[Place, ...]:
    """All repositories, the first one first."""
    return (site.repository, *site.copies)


def holding(site: Site, backup: Backup) -> tuple[Place, ...]:
    """The repositories that have a backup as far as the catalogue knows, those without trouble first."""
    noted = {copy.repository: copy for copy in backup.copies}
    found = [place for place in places(site) if place is site.repository or place.address in noted]
    return tuple(sorted(found, key=lambda p: bool(p.address in noted and noted[p.address].problem)))


def opened(site: Site, backup: Backup, tell: Progress) -> Reader:
    """Open a backup wherever it can be; what stands in the way is told. Raises Missing, Damaged, WrongKey, PlaceError.

    Parents of an incremental backup are opened so too.
    """
    first, *spares = holding(site, backup)
    reader = open_backup(first, backup.folder, site.keyring(), backup.sha256, spares)
    for problem in reader.troubles.values():
        tell(f"{backup.id}: {problem}; it is read from {reader.place.address}")
    return reader


def only(site: Site, address: str) -> Site:
    """The site with one repository, that at `address` (`--from`). Raises InputError when it cannot be used."""
    given = address if remote(address) else str(Path(address).resolve())
    for place in places(site):
        if place.address in (address.rstrip("/"), given):
            return replace(site, repository=place, copies=())
    return replace(site, repository=place_of(given, site.settings), copies=())
