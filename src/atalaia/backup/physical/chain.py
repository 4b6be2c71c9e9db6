"""Incremental backups and what they build on: choosing a parent, opening all of a chain."""

from __future__ import annotations

from dataclasses import dataclass

from atalaia.backup import catalogue
from atalaia.backup.model import Backup, Progress
from atalaia.backup.physical.base import MANIFEST, Source
from atalaia.backup.site import Site
from atalaia.backup.sources import opened
from atalaia.backup.vault.manifest import NAME
from atalaia.backup.vault.place import Damaged, Missing
from atalaia.backup.vault.reader import Reader, open_backup


@dataclass(frozen=True, slots=True)
class Parent:
    """What an incremental backup builds on; `manifest` is PostgreSQL's. Without `backup`, `why` there is none."""

    backup: Backup | None = None
    manifest: bytes = b""
    why: str = ""


def parent(site: Site, server: str, source: Source) -> Parent:
    """The newest physical backup that a new one of `server` can build on, whose whole chain is there.

    Raises PlaceError when the repository does not answer, WrongKey.
    """
    rows = {backup.id: backup for backup in catalogue.list_backups(site.catalogue)}
    candidates = [b for b in rows.values() if b.server == server and b.kind == "physical" and b.usable]
    why = "there is no physical backup of it yet"
    for backup in sorted(candidates, key=lambda b: (b.started, b.id), reverse=True):
        if backup.details["system_identifier"] != source.system_identifier:
            why = f"{backup.id} is of another server (system identifier {backup.details['system_identifier']})"
        elif backup.details["timeline"] != source.timeline:
            why = f"{backup.id} is of time line {backup.details['timeline']}, the server is on {source.timeline}"
        elif broken := _broken(site, backup, rows):
            why = broken
        else:
            try:
                return Parent(backup, opened(site, backup, _quiet).read(MANIFEST))
            except (Damaged, Missing) as error:
                why = error.what
    return Parent(why=why)


def _quiet(line: str) -> None:
    pass


def _broken(site: Site, backup: Backup, rows: dict[str, Backup]) -> str:
    """What of a backup's chain is not there; empty when all of it is."""
    link: Backup = backup
    while link.parent:
        above = rows.get(link.parent)
        if above is None or not above.usable:
            state = above.state.value if above else "not in the catalogue"
            return f"{link.id} builds on {link.parent}, which is {state}"
        if site.repository.size(f"{above.folder}/{NAME}") is None:
            return f"{link.id} builds on {link.parent}, which is missing in {site.repository.address}"
        link = above
    return ""


def open_chain(site: Site, backup: Backup, reader: Reader, progress: Progress) -> list[Reader]:
    """All backups that are needed, the full one first, `reader`'s last; each of the others is checked for damage.

    Raises Damaged saying which is missing or damaged, PlaceError, WrongKey.
    """
    rows = {row.id: row for row in catalogue.list_backups(site.catalogue)} if site.catalogue.is_file() else {}
    chain, above = [reader], backup.parent
    while above:
        known = rows.get(above)
        progress(f"{backup.id}: builds on {above}")
        try:
            if known:
                reader = opened(site, known, progress)
            else:
                reader = open_backup(chain[0].place, f"{backup.server}/{above}", site.keyring())
            problems = reader.damage()
        except (Damaged, Missing) as error:
            problems = [error.what]
        if problems:
            raise Damaged(
                f"{backup.id} builds on {above}, which cannot be used: {'; '.join(problems)}",
                "restore an earlier backup, or from another repository; make a full one now",
            )
        chain.insert(0, reader)
        above = str(reader.manifest.facts.get("parent", ""))
    return chain
