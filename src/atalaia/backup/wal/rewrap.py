"""A rotation of keys rewrites what the archive's data keys are wrapped in, and nothing else."""

from __future__ import annotations

import orjson

from atalaia.backup.vault.keys import Keyring
from atalaia.backup.vault.place import Place
from atalaia.backup.wal.archive import folder_of, note, systems


def rewrap(place: Place, server: str, keyring: Keyring) -> int:
    """After a rotation of keys: wrap the keys of a server's archives under the current one; how many were rewritten.

    Raises WrongKey, PlaceError.
    """
    done = 0
    for system in systems(place, server):
        for found in list(place.objects(f"{folder_of(server)}/{system}/keys/")):
            kept = note(place, found.name)
            if kept["encryption"]["key"] != keyring.current.id:
                secret = keyring.unwrap(kept["encryption"], kept["id"])
                place.put(found.name, orjson.dumps(kept | {"encryption": keyring.wrap(secret, kept["id"])}) + b"\n")
                done += 1
    return done
