"""What a server of the same name had left in its spool before it was made anew: it goes into its own archive."""

from __future__ import annotations

from pathlib import Path

from atalaia.backup.model import Progress
from atalaia.backup.site import Site
from atalaia.backup.wal import segment
from atalaia.backup.wal.archive import open_archive
from atalaia.backup.wal.spool import Spool
from atalaia.environment.errors import AtalaiaError


def carry(site: Site, server: str, current: Path, tell: Progress) -> None:
    """Archive what lies in the other systems' spools, and remove those. What cannot be archived stays, and is told."""
    for folder in sorted(current.parent.iterdir()):
        if folder == current or not folder.is_dir():
            continue
        tell(f"{server}: it is another server now, with the system identifier {current.name} in place of {folder.name}")
        try:
            _carry(site, server, folder)
            folder.rmdir()
        except (AtalaiaError, OSError) as error:
            tell(f"{server}: what is left in {folder} could not be archived: {getattr(error, 'what', error)}")


def _carry(site: Site, server: str, folder: Path) -> None:
    timeline, size = 0, 0
    for path in sorted(folder.iterdir()):
        if segment.is_segment(path.name.partition(".")[0]) and path.stat().st_size:
            with path.open("rb") as file:
                found = segment.header(file.read(64), path.name)
            timeline, size = found.timeline, found.size
    spool = Spool(folder, timeline, size, 0.0)
    if size:
        archive = open_archive(
            site.repository,
            server,
            folder.name,
            site.keyring(),
            segment_size=size,
            sealing=site.sealing(),
            compression=site.settings.compression,
            level=site.settings.level,
        )
        assert archive
        spool.carry(archive)
        spool.carry_partial(archive, None, now=True)
    spool.clear()
    for name in spool.files():
        (folder / name).unlink()  # a history alone: without WAL of its timeline it says nothing
