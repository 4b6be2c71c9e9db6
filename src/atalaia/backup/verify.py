"""Proves that a backup restores: checksum, then into a temporary server of its own major version, then
compared.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from atalaia.backup import catalogue
from atalaia.backup.keeping.guard import using
from atalaia.backup.kind import Proof
from atalaia.backup.kinds import KINDS
from atalaia.backup.model import Backup, Progress, State, Untested, Verification, logfmt
from atalaia.backup.site import Site
from atalaia.backup.vault.keys import WrongKey
from atalaia.backup.vault.place import Damaged, Missing, PlaceError
from atalaia.backup.vault.reader import open_backup
from atalaia.environment.errors import InputError
from atalaia.postgres.temporary import sweep

_log = logging.getLogger("atalaia.backup")


def verify_one(site: Site, backup: Backup, progress: Progress) -> Backup:
    """Test a backup and record the result; the backup as it is then, verified or failed.

    Raises Untested, leaving its state, when no restore test is possible here, InputError when there is nothing of it.
    """
    with using(site, backup.server, progress):
        # It may have been removed, or judged, while we waited.
        return _verify(site, catalogue.get(site.catalogue, backup.id), progress)


def _verify(site: Site, backup: Backup, progress: Progress) -> Backup:
    if backup.state is State.RUNNING or not backup.sha256:
        raise InputError(
            f"{backup.id} is {backup.state.value} and has nothing to verify",
            "make another: `atalaia backup now`",
        )
    for folder in sweep(site.temporary):
        progress(f"removed {folder.name}, a temporary server left by a restore test that was killed")
    progress(f"{backup.id}: reading its {backup.size} bytes again")
    proof = _prove(site, backup, progress)
    problem, seconds, version = proof.problem, proof.seconds, proof.server_version
    result = Verification(datetime.now(UTC), not problem, round(seconds, 3), version, problem)
    judged = catalogue.judge(site.catalogue, backup, result)
    if problem:
        _log.error(logfmt("backup_failed", backup=backup.id, server=backup.server, problem=problem))
        progress(f"{backup.id}: FAILED, {problem}")
    else:
        _log.info(logfmt("backup_verified", backup=backup.id, server=backup.server, restore_seconds=f"{seconds:.3f}"))
        progress(f"{backup.id}: verified, {backup.rows} rows restored in {seconds:.1f} s")
    return judged


def _prove(site: Site, backup: Backup, progress: Progress) -> Proof:
    """Checksums, then the restore test of its kind."""
    try:
        reader = open_backup(site.repository, backup.folder, site.keyring(), backup.sha256)
        if damaged := reader.damage():
            return Proof(0.0, "; ".join(damaged))
        return KINDS[backup.kind].prove(site, backup, reader, progress)
    except (Damaged, Missing) as error:
        return Proof(0.0, error.what)
    except (PlaceError, WrongKey) as error:
        raise Untested(f"{backup.id} could not be tested: {error.what}", error.remedy) from error
