"""Makes, joins and rotates keys, and sees that the key file opens what is in the repositories."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from atalaia.backup import rows
from atalaia.backup.keeping.guard import using
from atalaia.backup.model import Progress, logfmt
from atalaia.backup.site import Site
from atalaia.backup.sources import places
from atalaia.backup.vault import keys
from atalaia.backup.vault.keys import Key, Keyring
from atalaia.backup.vault.manifest import NAME
from atalaia.backup.vault.place import Missing, Place
from atalaia.backup.vault.reader import look, open_backup
from atalaia.backup.wal.rewrap import rewrap as rewrap_wal
from atalaia.environment.errors import AtalaiaError, InputError

_log = logging.getLogger("atalaia.backup")


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """Whether the keys open a backup in a repository; `problem` is empty when they do."""

    repository: str
    backup: str
    problem: str


@dataclass(frozen=True, slots=True)
class Rewrapped:
    """How many manifests and keys of archived WAL were put under the current key, how many were, what could not be."""

    changed: int
    unchanged: int
    problems: tuple[str, ...]


def new(path: Path) -> Key:
    """Make the key file with a first key. Raises InputError when there is one."""
    if path.exists():
        raise InputError(
            f"{path} is there already; nothing was changed",
            "`atalaia backup key rotate` adds a key to it; `atalaia backup key list` shows those it has",
        )
    key = keys.new_key()
    keys.save(path, Keyring((key,)))
    _log.info(logfmt("key_made", key=key.id))
    return key


def rotate(path: Path) -> Key:
    """Add a key, which seals new backups from now on; the earlier ones stay and open what they sealed.

    Raises InputError when there is no key file.
    """
    ring = keys.load(path)
    key = keys.new_key()
    keys.save(path, Keyring((*ring.keys, key)))
    _log.info(logfmt("key_rotated", key=key.id, before=ring.current.id))
    return key


def join(path: Path, other: Path) -> list[Key]:
    """Add the keys of another key file, in the order in which they were made; those that are new.

    Raises InputError when either is no key file.
    """
    here = keys.load(path).keys if path.exists() else ()
    known = {key.id for key in here}
    added = [key for key in keys.load(other).keys if key.id not in known]
    if added:
        keys.save(path, Keyring(tuple(sorted((*here, *added), key=lambda key: key.created))))
        _log.info(logfmt("keys_imported", keys=",".join(key.id for key in added)))
    return added


def rewrap(site: Site, progress: Progress) -> Rewrapped:
    """Put the data keys of all encrypted backups in all repositories under the current key.

    A manifest at a time, each replaced at once while its old key stays in the key file: after a kill at any moment
    every backup opens, and the next call does the rest. Raises InputError when there is no key file.
    """
    ring = keys.load(site.key_file)
    changed = unchanged = 0
    problems = []
    for place in places(site):
        try:
            for server, folders in _servers(place):
                with using(site, server, progress):
                    changed += rewrap_wal(place, server, ring)
                    for folder in folders:
                        try:
                            done = _rewrap(place, folder, ring)
                        except Missing:
                            continue  # no backup
                        except AtalaiaError as error:
                            problems.append(error.what)
                            continue
                        changed, unchanged = changed + done, unchanged + (not done)
        except AtalaiaError as error:
            problems.append(error.what)
        progress(f"{place.address}: read")
    for problem in problems:
        progress(f"NOT under the new key: {problem}")
    _log.info(logfmt("keys_rewrapped", key=ring.current.id, changed=changed, problems=len(problems)))
    return Rewrapped(changed, unchanged, tuple(problems))


def check(site: Site) -> list[KeyCheck]:
    """Whether the key file opens the oldest and the newest backup of each server in each repository.

    Reads manifest and index alone. A repository that does not answer is one problem.
    """
    found = []
    for place in places(site):
        try:
            for _, folders in _servers(place):
                found += [_check(site, place, folder) for folder in dict.fromkeys(_ends(place, folders))]
        except AtalaiaError as error:
            found.append(KeyCheck(place.address, "", error.what))
    return found


def _servers(place: Place) -> Iterator[tuple[str, list[str]]]:
    for server in place.folders():
        yield server, [f"{server}/{name}" for name in place.folders(f"{server}/")]


def _ends(place: Place, folders: list[str]) -> Iterator[str]:
    """The first and the last of them that are backups."""
    for order in (folders, folders[::-1]):
        for folder in order:
            if place.size(f"{folder}/{NAME}") is not None:
                yield folder
                break


def _check(site: Site, place: Place, folder: str) -> KeyCheck:
    name = folder.rsplit("/", 1)[-1]
    try:
        open_backup(place, folder, site.keyring())
    except AtalaiaError as error:
        return KeyCheck(place.address, name, error.what)
    return KeyCheck(place.address, name, "")


def _rewrap(place: Place, folder: str, ring: Keyring) -> bool:
    manifest = look(place, folder)
    if not manifest.encryption or manifest.encryption.get("key") == ring.current.id:
        return False
    reader = open_backup(place, folder, ring)
    assert reader.codec.key
    rows.rewrap(place, reader, ring.wrap(reader.codec.key, manifest.identifier))
    return True
