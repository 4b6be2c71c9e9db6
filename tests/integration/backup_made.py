"""Backups without a server: whatever bytes, sealed and noted as a real one is. They verify by checksums alone."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from atalaia.backup import catalogue, rows
from atalaia.backup.model import Backup, State, Verification
from atalaia.backup.site import Site
from atalaia.backup.vault.keys import WrongKey
from atalaia.backup.vault.place import Damaged, Place, PlaceError
from atalaia.backup.vault.reader import open_backup
from atalaia.backup.vault.writer import Writer
from atalaia.runtime.process import Process

_FIRST = datetime(2026, 11, 22, 15, tzinfo=UTC)


def make(site: Site, number: int = 0, *, server: str = "postgres_a", parent: str = "", size: int = 300_000) -> Backup:
    """The backup of hour `number`, complete, in the first repository."""
    at = _FIRST + timedelta(hours=number)
    backup = Backup(
        id=f"{server}_{at:%Y-%m-%dT%H%M%SZ}",
        server=server,
        kind="plain",
        parent=parent,
        state=State.RUNNING,
        started=at,
        server_version="16.14",
        client_version="16.14",
        contents={"databases": {"postgres": {"tables": {"public.t": [number, 10]}}}},
        settings={"lc_monetary": "C"},
        messages="a remark",
    )
    site.catalogue.parent.mkdir(parents=True, exist_ok=True)
    process = Process.of(os.getpid())
    assert process
    catalogue.begin(site.catalogue, backup, process)
    with Writer(
        site.repository, backup.folder, compression="zstd", level=1, keyring=site.sealing(), pack_size=size // 3
    ) as writer:
        for name in ("first", "second"):
            writer.member(name).write(os.urandom(size))
        backup = rows.sealed(replace(backup, state=State.COMPLETE, finished=at + timedelta(minutes=1)), writer)
    catalogue.put(site.catalogue, backup)
    return backup


def judged(site: Site, backup: Backup, problem: str = "") -> Backup:
    """A restore test noted, as if it had been made."""
    return catalogue.judge(
        site.catalogue, backup, Verification(_FIRST + timedelta(days=1), not problem, 1.5, "16.14", problem)
    )


def objects(place: Place) -> dict[str, bytes]:
    """All that a place holds."""
    return {found.name: place.read(found.name) for found in place.objects()}


def whole(site: Site, backup: Backup, place: Place) -> bool:
    """Whether one place alone has all of a backup, and the keys open it."""
    try:
        reader = open_backup(place, backup.folder, site.keyring(), backup.sha256)
        return not reader.damage() and all(len(reader.read(name)) == m.size for name, m in reader.members.items())
    except (Damaged, PlaceError, WrongKey):
        return False


def flip(place: Place, name: str, at: float = 0.5) -> None:
    """One bit of an object is another from now on."""
    data = place.read(name)
    where = min(int(len(data) * at), len(data) - 1)
    place.put(name, data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :])
