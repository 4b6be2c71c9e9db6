"""What commands call: back up, list, verify, restore. Values are returned, progress is told line by line."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from atalaia.backup import catalogue, dump, repository
from atalaia.backup.model import Backup, Progress, Restored, State, logfmt
from atalaia.backup.restore import restore_to
from atalaia.backup.site import Site
from atalaia.backup.verify import verify_one
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.postgres.tools import run
from atalaia.runtime.process import Process

_log = logging.getLogger("atalaia.backup")
# A restore needs these as they are on the original server, wherever they were set.
_NEEDED_SETTINGS = (
    *("shared_preload_libraries", "session_preload_libraries", "local_preload_libraries"),
    *("max_locks_per_transaction", "lc_monetary"),
)


def quiet(line: str) -> None:
    """A progress callback that tells nobody."""


def backup_now(cluster: Cluster, site: Site, progress: Progress = quiet, *, verify: bool = True) -> Backup:
    """Dump a running server into the repository, then prove that it restores; the backup, verified.

    Raises AtalaiaError when the server cannot be dumped or the dump does not restore (the row then says
    failed), and Untested when the dump is complete but no restore test was possible.
    """
    folder = repository.create(site.repository, cluster.name)
    with repository.lock(site.repository, cluster.name):
        repository.recover(site.repository, progress, held=cluster.name)
        backup = _begin(cluster, site.repository, folder)
        progress(f"{backup.id}: dumping {cluster.name} (PostgreSQL {backup.server_version})")
        _log.info(logfmt("backup_started", backup=backup.id, server=cluster.name, server_version=backup.server_version))
        try:
            written = dump.write(cluster, site.repository / backup.file)
            backup = replace(
                backup,
                state=State.COMPLETE,
                finished=datetime.now(UTC),
                size=written.size,
                raw_size=written.raw_size,
                sha256=written.sha256,
                contents=written.contents.summary(),
                messages="\n".join(part for part in (backup.messages, written.said) if part),
            )
            catalogue.put(site.repository, backup)
        except BaseException as error:
            _failed(site.repository, backup, error)
            raise
    _log.info(logfmt("backup_complete", backup=backup.id, server=cluster.name, bytes=backup.size, rows=backup.rows))
    progress(f"{backup.id}: complete, {backup.rows} rows in {backup.size} bytes")
    for message in backup.messages.splitlines():
        progress(f"{backup.id}: {message}")
    if not verify:
        return backup
    backup = verify_one(site, backup, progress)
    if backup.state is State.FAILED:
        raise AtalaiaError(
            f"the backup {backup.id} was written, but it does not restore: {backup.error}",
            "it is kept and marked failed; correct the cause, then make another",
        )
    return backup


def list_backups(folder: Path, progress: Progress = quiet) -> list[Backup]:
    """Every backup of the repository, oldest first; what was interrupted is marked failed and told first."""
    if not (folder / catalogue.FILE).is_file():
        return []
    repository.recover(folder, progress)
    return catalogue.list_backups(folder)


def verify(site: Site, identifiers: Sequence[str] = (), progress: Progress = quiet) -> list[Backup]:
    """Test backups (default: the last complete or verified one of each server); each as it is then.

    Raises InputError for an unknown id, Untested when a restore test is not possible here.
    """
    known = list_backups(site.repository, progress)
    if identifiers:
        chosen = [catalogue.get(site.repository, identifier) for identifier in identifiers]
    else:
        usable = [backup for backup in known if backup.state in (State.COMPLETE, State.VERIFIED)]
        chosen = list({backup.server: backup for backup in usable}.values())
    return [verify_one(site, backup, progress) for backup in chosen]


def restore(
    site: Site,
    identifier: str,
    target: Path | None = None,
    progress: Progress = quiet,
    *,
    keep_running: bool = False,
) -> Restored:
    """Restore a backup into a new server: `target`, or restored/<id> beside the servers.

    It has a password of its own, and a free loopback port. Raises InputError and AtalaiaError (see
    restore_to).
    """
    list_backups(site.repository, progress)
    return restore_to(site, catalogue.get(site.repository, identifier), target, keep_running, progress)


def _begin(cluster: Cluster, folder: Path, server_folder: Path) -> Backup:
    """Look at the server, refuse what cannot be dumped safely, and note that the backup is running."""
    client = _client_version(cluster)
    try:
        with connect(cluster, autocommit=True) as connection:
            version = (connection.info.parameter_status("server_version") or "").split(" ")[0]
            rows = connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name = ANY(%s) AND setting NOT IN "
                "('', boot_val, 'C.UTF-8')",
                (list(_NEEDED_SETTINGS),),
            ).fetchall()
            remarks = [row[0] for row in connection.execute(_REMARKS).fetchall()]
    except psycopg.Error as error:
        said = str(error).strip().splitlines()[-1]
        remedy = control.lasting_refusal(cluster, said)
        raise (InputError if remedy else AtalaiaError)(
            f"{cluster.name} cannot be backed up, for it takes no connection on {cluster.host} port "
            f"{cluster.port}: {said}",
            remedy or "start it with `atalaia up`",
        ) from error
    if version.split(".")[0] != client.split(".")[0]:
        raise AtalaiaError(
            f"{cluster.name} is PostgreSQL {version}, but pg_dumpall is {client}",
            "client and server must have the same major version: install it, or correct `binaries` of the server",
        )
    at = datetime.now(UTC)
    name = repository.identifier(server_folder, cluster.name, at)
    backup = Backup(
        id=name,
        server=cluster.name,
        kind="logical",
        state=State.RUNNING,
        file=f"{cluster.name}/{name}{repository.ENDING}",
        started=at,
        finished=None,
        server_version=version,
        client_version=client,
        size=0,
        raw_size=0,
        sha256="",
        contents={},
        settings=dict(rows),
        messages="\n".join(remarks),
        error="",
    )
    process = Process.of(os.getpid())
    assert process
    catalogue.begin(folder, backup, process)
    return backup


# What pg_dumpall leaves out without a word.
_REMARKS = """
SELECT format('database %I allows no connections and is not in the dump', datname)
  FROM pg_database WHERE NOT datallowconn AND datname <> 'template0'
UNION ALL
SELECT format('settings and privileges of the database %I itself are not in the dump (its contents are)',
datname) FROM pg_database d WHERE datname IN ('postgres', 'template1') AND (EXISTS (SELECT FROM
pg_db_role_setting WHERE setdatabase = d.oid AND setrole = 0) OR datname = 'postgres' AND datacl IS NOT NULL)
"""


def _client_version(cluster: Cluster) -> str:
    said = run([cluster.installation.program("pg_dumpall"), "--version"], seconds=30).stdout
    match = re.search(r"\(PostgreSQL\) (\S+)", said)
    return match[1] if match else "unknown"


def _failed(folder: Path, backup: Backup, error: BaseException) -> None:
    what = error.what if isinstance(error, AtalaiaError) else f"interrupted ({type(error).__name__})"
    _log.error(logfmt("backup_failed", backup=backup.id, server=backup.server, problem=what))
    # The disk may be full: then the next command marks it (repository.recover), and the first error is what
    # counts.
    with contextlib.suppress(AtalaiaError):
        (folder / backup.file).unlink(missing_ok=True)
        catalogue.put(folder, replace(backup, state=State.FAILED, finished=datetime.now(UTC), error=what))
