"""A catalogue row as a manifest keeps it, so that a lost catalogue is found again in the repository."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from atalaia.backup.model import Backup, State
from atalaia.backup.vault import manifest as manifests
from atalaia.backup.vault.manifest import NAME
from atalaia.backup.vault.place import Place
from atalaia.backup.vault.reader import Reader
from atalaia.backup.vault.writer import Writer

# What may stand in clear beside an encrypted backup. Names of tables and roles may not.
_CLEAR = ("server", "kind", "parent", "server_version", "client_version", "raw_size")
_SEALED = ("contents", "settings", "details", "messages")


def sealed(backup: Backup, writer: Writer) -> Backup:
    """Finish a backup: its row goes into the manifest; the row with size and checksum."""
    backup = replace(backup, raw_size=writer.raw_size)
    assert backup.finished
    facts: dict[str, Any] = {name: getattr(backup, name) for name in _CLEAR}
    facts |= {"started": backup.started.isoformat(), "finished": backup.finished.isoformat()}
    manifest, data = writer.finish(facts, {name: getattr(backup, name) for name in _SEALED})
    return replace(backup, size=manifest.size + len(data), sha256=manifests.digest(manifest))


def found(reader: Reader) -> Backup:
    """The row of a backup in a repository, as it was when it was complete."""
    data = reader.place.read(f"{reader.folder}/{NAME}")
    facts = reader.manifest.facts
    return Backup(
        id=reader.manifest.identifier,
        state=State.COMPLETE,
        started=datetime.fromisoformat(facts["started"]),
        finished=datetime.fromisoformat(facts["finished"]),
        size=reader.manifest.size + len(data),
        sha256=manifests.digest(reader.manifest),
        **{name: facts[name] for name in _CLEAR},
        **{name: reader.details[name] for name in _SEALED},
    )


def rewrap(place: Place, reader: Reader, encryption: dict[str, str]) -> None:
    """Write a manifest anew in one of its places, its data key wrapped by another repository key.

    One object is replaced at once, and the checksum that the catalogue knows stays: a kill at any moment loses nothing.
    """
    data = manifests.encode(manifests.rewrapped(reader.manifest, encryption), reader.codec.key)
    place.put(f"{reader.folder}/{NAME}", data)
