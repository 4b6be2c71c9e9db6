"""A chain of backups -> one data directory, by pg_combinebackup of the same major version."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from atalaia.backup.model import Progress
from atalaia.backup.physical import files
from atalaia.backup.physical.files import Room
from atalaia.backup.physical.journal import Journal
from atalaia.backup.vault.reader import Reader
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.places import make
from atalaia.postgres.tools import run

_DAY = 86_400


def combine(
    chain: list[Reader], cluster: Cluster, room: Room, jobs: int, journal: Journal, progress: Progress
) -> list[Path]:
    """Lay out each backup of a chain in a directory of its own, the full one first, and combine them into `room`.

    Returns where they lie; the caller removes them. Raises what `files.lay` does.
    """
    parts = cluster.directory / "chain"
    make(parts, None, cluster.account)
    laid = []
    for number, reader in enumerate(chain):
        part = replace(room, data=parts / str(number), tablespaces=parts / f"{number}.tablespaces")
        progress(
            f"{chain[-1].manifest.identifier}: laying out {number + 1} of {len(chain)}, {reader.manifest.identifier}"
        )
        make(part.tablespaces, None, cluster.account)
        files.lay(reader, part, jobs, journal, progress)
        laid.append(part)
    _combine(cluster, laid, room, chain[-1], progress)
    return [part.data for part in laid]


def _combine(cluster: Cluster, parts: list[Room], room: Room, last: Reader, progress: Progress) -> None:
    program = cluster.installation.program("pg_combinebackup")
    if not program.is_file():
        raise AtalaiaError(
            f"{last.manifest.identifier} is incremental, and {program} is missing",
            "install PostgreSQL's programs of that major version completely",
        )
    for folder in (room.data, *(room.folder(place["member"]) for place in _tablespaces(last))):
        shutil.rmtree(folder, ignore_errors=True)
        make(folder.parent, None, cluster.account)
        make(folder, cluster.account, mode=0o700)
    arguments: list[str | Path] = [program, "--no-sync", "--manifest-checksums=CRC32C", f"--output={room.data}"]
    if "--link" in run([program, "--help"]).stdout:
        arguments.append("--link")
    for place in _tablespaces(last):
        old, new = parts[-1].folder(place["member"]).resolve(), room.folder(place["member"]).resolve()
        arguments.append(f"--tablespace-mapping={_escaped(old)}={_escaped(new)}")
    progress(f"{last.manifest.identifier}: combining {len(parts)} backups")
    done = run([*arguments, *(part.data for part in parts)], account=cluster.account, seconds=_DAY)
    if done.returncode:
        raise AtalaiaError(
            f"pg_combinebackup could not combine the chain of {last.manifest.identifier}: {done.stderr.strip()}",
            "restore an earlier backup",
        )


def _tablespaces(reader: Reader) -> list[dict[str, str]]:
    found: list[dict[str, str]] = reader.details["details"]["tablespaces"]
    return found


def _escaped(path: Path) -> str:
    return str(path).replace("=", "\\=")
