"""Members of a backup and of those that it builds on -> a data directory as it was copied, not yet recovered."""

from __future__ import annotations

import hashlib
import shutil
from dataclasses import asdict
from pathlib import Path

import orjson

from atalaia.backup.model import Backup, Progress, Wanted
from atalaia.backup.physical import combine, files, journal
from atalaia.backup.physical.chain import open_chain
from atalaia.backup.physical.files import Room
from atalaia.backup.physical.journal import Journal
from atalaia.backup.site import Site
from atalaia.backup.vault.reader import Reader
from atalaia.environment.errors import InputError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.places import make
from atalaia.postgres.temporary import end_abandoned

ALWAYS = ("template0", "template1", "postgres")


def lay_out(
    site: Site, backup: Backup, reader: Reader, cluster: Cluster, wanted: Wanted, progress: Progress
) -> tuple[Journal, list[Path]]:
    """Put all files into the new server's directory; the journal, and the directories of a chain's backups.

    It goes on where an interrupted restore of the same to there has stopped. Raises Damaged, PlaceError, InputError,
    AtalaiaError.
    """
    chain = open_chain(site, backup, reader, progress)
    for one in chain:
        files.check_names(one)
    path, what = cluster.directory / journal.NAME, _what(backup, wanted)
    found = journal.resume(path, what)
    if found is None:
        clear(cluster)
    else:
        progress(f"{backup.id}: the restore that was interrupted goes on")
        end_abandoned(cluster.directory)
        if found.phase != "files":
            return found, _parts(cluster)
    noted = found or Journal(path, what)
    room = Room(
        cluster.data.resolve(), cluster.directory.resolve() / "tablespaces", cluster.account, _without(backup, wanted)
    )
    make(room.tablespaces, None, cluster.account)
    if len(chain) == 1:
        room.data.mkdir(mode=0o700, exist_ok=True)
        files.lay(reader, room, wanted.jobs, noted, progress)
    else:
        combine.combine(chain, cluster, room, wanted.jobs, noted, progress)
    make(room.data, cluster.account, mode=0o700)
    noted.enter("laid")
    return noted, _parts(cluster)


def clear(cluster: Cluster) -> None:
    """Remove what another restore has left in the new server's directory."""
    for name in ("data", "tablespaces", "chain"):
        if (cluster.directory / name).exists():
            shutil.rmtree(cluster.directory / name)
    (cluster.directory / journal.NAME).unlink(missing_ok=True)


def finish(cluster: Cluster) -> None:
    """Remove what only a restore under way needs."""
    shutil.rmtree(cluster.directory / "chain", ignore_errors=True)
    for name in ("recovery.signal", "backup_label.old", "tablespace_map.old"):
        (cluster.data / name).unlink(missing_ok=True)
    (cluster.directory / journal.NAME).unlink(missing_ok=True)


def _parts(cluster: Cluster) -> list[Path]:
    parts = cluster.directory / "chain"
    return sorted((p for p in parts.iterdir() if p.name.isdigit()), key=lambda p: int(p.name)) if parts.is_dir() else []


def _without(backup: Backup, wanted: Wanted) -> frozenset[int]:
    """OIDs of the databases whose content is not wanted."""
    names, known = wanted.selection.databases, backup.contents["databases"]
    if not names:
        return frozenset()
    unknown = [name for name in names if name not in known]
    if unknown and not wanted.target:
        raise InputError(
            f"{backup.id} has no database {', '.join(unknown)}",
            f"it has: {', '.join(n for n in known if n != 'template0')}",
        )
    return frozenset(found["oid"] for name, found in known.items() if name not in (*names, *ALWAYS))


def _what(backup: Backup, wanted: Wanted) -> str:
    """Which restore it is: of this backup, to this target, of these databases."""
    asked = orjson.dumps([backup.id, backup.sha256, asdict(wanted) | {"jobs": 0}], default=str)
    return hashlib.sha256(asked).hexdigest()
