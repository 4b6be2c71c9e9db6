"""What `atalaia backup wal` shows: how streaming goes, how far the archive reaches, where recovery is interrupted."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from atalaia.backup import catalogue
from atalaia.backup.site import Site
from atalaia.backup.wal import segment, status
from atalaia.backup.wal.archive import Archive, folder_of, open_archive, systems
from atalaia.backup.wal.extent import Gap, gaps, ranges
from atalaia.backup.wal.segment import PARTIAL
from atalaia.backup.wal.status import Status


@dataclass(frozen=True, slots=True)
class Reach:
    """WAL without a hole: LSNs, when its ends were received, and how many segments it has."""

    system: str
    timeline: int
    start: str
    end: str
    since: datetime
    until: datetime
    segments: int


@dataclass(frozen=True, slots=True)
class View:
    """One server's WAL; `status` is None when it was never streamed, `size` stored bytes."""

    server: str
    status: Status | None
    reaches: tuple[Reach, ...]
    missing: tuple[Gap, ...]
    size: int


def view(site: Site, server: str) -> View:
    """What is there. Raises PlaceError, Damaged, WrongKey."""
    reaches: list[Reach] = []
    missing: list[Gap] = []
    for system in systems(site.repository, server):
        archive = open_archive(site.repository, server, system, site.keyring())
        if archive is None:
            continue
        missing += gaps(archive)
        for each in ranges(archive):
            first, last = each.names
            end = each.last.start + len(archive.read(last)) if last.endswith(PARTIAL) else each.last.end
            reaches.append(
                Reach(
                    system,
                    each.first.timeline,
                    segment.show(each.first.start),
                    segment.show(end),
                    archive.received(first),
                    archive.received(last),
                    each.last.number - each.first.number + 1,
                )
            )
    size = sum(found.size for found in site.repository.objects(f"{folder_of(server)}/"))
    return View(server, status.load(site, server), tuple(reaches), tuple(missing), size)


def interruptions(site: Site, archive: Archive) -> tuple[Gap, ...]:
    """The holes that no physical backup has been made after: recovery of the newest ones stops there."""
    starts = [
        segment.lsn(backup.details["start_lsn"])
        for backup in catalogue.list_backups(site.catalogue)
        if backup.kind == "physical"
        and backup.usable
        and backup.server == archive.server
        and backup.details.get("system_identifier") == archive.system
    ]
    newest = max(starts, default=0)
    return tuple(gap for gap in gaps(archive) if newest < gap.last.end)
