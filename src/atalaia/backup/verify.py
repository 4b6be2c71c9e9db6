"""Proves that a backup restores: checksum, then into a temporary server of its own major version, then
compared.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime

from atalaia.backup import catalogue, evidence
from atalaia.backup.copies import note_troubles
from atalaia.backup.keeping.guard import using
from atalaia.backup.kind import Proof
from atalaia.backup.kinds import KINDS
from atalaia.backup.model import Backup, Progress, State, Untested, Verification, logfmt
from atalaia.backup.site import Site
from atalaia.backup.sources import holding, only, opened
from atalaia.backup.vault.keys import WrongKey
from atalaia.backup.vault.place import Damaged, Missing, PlaceError
from atalaia.backup.vault.reader import open_backup
from atalaia.environment.errors import InputError

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
    progress(f"{backup.id}: reading its {backup.size} bytes again")
    backup, proof = _prove(site, backup, progress)
    problem, seconds, version = proof.problem, proof.seconds, proof.server_version
    result = Verification(datetime.now(UTC), not problem, round(seconds, 3), version, problem)
    judged = catalogue.judge(site.catalogue, backup, result)
    evidence.publish(site, judged)
    if problem:
        _log.error(logfmt("backup_failed", backup=backup.id, server=backup.server, problem=problem))
        progress(f"{backup.id}: FAILED, {problem}")
    else:
        _log.info(logfmt("backup_verified", backup=backup.id, server=backup.server, restore_seconds=f"{seconds:.3f}"))
        progress(f"{backup.id}: verified, restored in {seconds:.1f} s")
    return judged


def _prove(site: Site, backup: Backup, progress: Progress) -> tuple[Backup, Proof]:
    """Checksums, then the restore test of its kind; the backup with what was found of its repositories."""
    try:
        reader = opened(site, backup, progress)
        told = dict(reader.troubles)
        damaged = reader.damage()
        for address, problem in reader.troubles.items():
            if address not in told and not damaged:
                progress(f"{backup.id}: {problem}; it is whole elsewhere, and `atalaia backup copy` mends it")
        if damaged:
            return backup, Proof(0.0, "; ".join(damaged))
        proof = KINDS[backup.kind].prove(site, backup, reader, progress)
        return note_troubles(site, backup, reader.troubles, [reader.place.address]), proof
    except (Damaged, Missing) as error:
        return backup, Proof(0.0, error.what)
    except (PlaceError, WrongKey) as error:
        raise Untested(f"{backup.id} could not be tested: {error.what}", error.remedy) from error


def verify_copy(site: Site, backup: Backup, address: str, progress: Progress) -> str:
    """Test the copy of a backup in one repository and note it there; what is wrong with it.

    The backup's own state stays: others may have it whole. Raises Untested, InputError.
    """
    there = only(site, address)
    with using(site, backup.server, progress):
        _, proof = _prove(there, replace(backup, copies=()), progress)
        where = there.repository.address
        note_troubles(site, backup, {where: proof.problem} if proof.problem else {}, [where])
    if proof.problem:
        progress(f"{backup.id}: FAILED in {where}: {proof.problem}")
    else:
        progress(f"{backup.id}: whole in {where}, {backup.rows} rows restored in {proof.seconds:.1f} s")
    return proof.problem


def check(site: Site, backup: Backup, progress: Progress) -> dict[str, str]:
    """Read a backup again where it lies and compare checksums (`--fast`); what is wrong, by repository.

    States stay; what is found of repositories is noted. Raises InputError when there is nothing of it.
    """
    if backup.state is State.RUNNING or not backup.sha256:
        raise InputError(f"{backup.id} is {backup.state.value} and has nothing to verify", "make another")
    wrong, sound = {}, []
    with using(site, backup.server, progress):
        for place in holding(site, backup):
            try:
                reader = open_backup(place, backup.folder, site.keyring(), backup.sha256)
                problem = "; ".join(reader.damage())
            except (Damaged, PlaceError, WrongKey) as error:
                problem = error.what
            if problem:
                wrong[place.address] = problem
                progress(f"{backup.id}: {problem}")
            else:
                sound.append(place.address)
                progress(f"{backup.id}: its checksums are right in {place.address}")
        note_troubles(site, backup, wrong, sound)
    return wrong
