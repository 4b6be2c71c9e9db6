"""Proves that a backup restores: checksum, then into a temporary server of its own major version, then
compared.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from atalaia.backup import catalogue
from atalaia.backup.load import damage, load
from atalaia.backup.model import Backup, Progress, State, Untested, Verification, logfmt
from atalaia.backup.site import Site
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres.temporary import sweep, temporary

_log = logging.getLogger("atalaia.backup")


def verify_one(site: Site, backup: Backup, progress: Progress) -> Backup:
    """Test a backup and record the result; the backup as it is then, verified or failed.

    Raises Untested, leaving its state, when no restore test is possible here, InputError when it has no dump.
    """
    if backup.state is State.RUNNING or not backup.sha256:
        raise InputError(
            f"{backup.id} is {backup.state.value} and has no dump to verify",
            "make another: `atalaia backup now`",
        )
    for folder in sweep(site.temporary):
        progress(f"removed {folder.name}, a temporary server left by a restore test that was killed")
    path = site.repository / backup.file
    progress(f"{backup.id}: reading its {backup.size} bytes again")
    problem = damage(path, backup)
    seconds, version = 0.0, ""
    if not problem:
        installation = site.installation(backup.major)
        version = installation.version
        progress(f"{backup.id}: restoring into a temporary PostgreSQL {version}")
        loaded = None
        try:
            with temporary(installation, site.account, site.temporary, backup.settings) as cluster:
                loaded = load(path, backup, cluster)
        except Untested:
            raise
        except AtalaiaError as error:
            raise Untested(f"{backup.id} could not be tested: {error.what}", error.remedy) from error
        seconds, problem = loaded.seconds, loaded.problem
    result = Verification(datetime.now(UTC), not problem, round(seconds, 3), version, problem)
    judged = catalogue.judge(site.repository, backup, result)
    if problem:
        _log.error(logfmt("backup_failed", backup=backup.id, server=backup.server, problem=problem))
        progress(f"{backup.id}: FAILED, {problem}")
    else:
        _log.info(logfmt("backup_verified", backup=backup.id, server=backup.server, restore_seconds=f"{seconds:.3f}"))
        progress(f"{backup.id}: verified, {backup.rows} rows restored in {seconds:.1f} s")
    return judged
