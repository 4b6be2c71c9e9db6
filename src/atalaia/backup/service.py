"""What commands call: back up, list, verify, restore. Values are returned, progress is told line by line."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import psycopg

from atalaia.backup import catalogue, rows, underway
from atalaia.backup.copies import copy_backup, copy_wal
from atalaia.backup.keeping.guard import using
from atalaia.backup.keeping.prune import prune
from atalaia.backup.kind import Kind
from atalaia.backup.kinds import maker_of
from atalaia.backup.model import ALL, Backup, Progress, Restored, State, Wanted, logfmt
from atalaia.backup.rebuild import told_older
from atalaia.backup.restore import restore_to
from atalaia.backup.site import Site
from atalaia.backup.vault.writer import Writer
from atalaia.backup.verify import verify_one
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect, said
from atalaia.postgres.tools import run
from atalaia.runtime.process import Process

_log = logging.getLogger("atalaia.backup")
# A restore needs these as they are on the original server, wherever they were set.
_NEEDED_SETTINGS = (
    *("shared_preload_libraries", "session_preload_libraries", "local_preload_libraries"),
    *("max_locks_per_transaction", "lc_monetary"),
)
# Recovery and what runs after it: a copy of the files needs them as they were.
_NEEDED_BY_FILES = (*_NEEDED_SETTINGS, "max_prepared_transactions", "max_connections", "max_worker_processes")


def quiet(line: str) -> None:
    """A progress callback that tells nobody."""


def backup_now(
    cluster: Cluster,
    site: Site,
    progress: Progress = quiet,
    *,
    kind: str | None = None,
    incremental: bool = False,
    verify: bool = True,
) -> Backup:
    """Back up a running server into the repository, then prove that it restores; the backup, verified.

    `incremental` builds on the newest physical backup that can be built on; where there is none, a full one is made.

    Raises AtalaiaError when the server cannot be backed up or the backup does not restore (the row then says
    failed), and Untested when it is complete but no restore test was possible.
    """
    maker = maker_of(kind or site.settings.kind, incremental=incremental)
    sealing = site.sealing()
    with underway.lock(site, cluster.name):
        underway.recover(site, progress, held=cluster.name)
        backup = _begin(cluster, site, maker)
        progress(f"{backup.id}: backing up {cluster.name} (PostgreSQL {backup.server_version}, {backup.kind})")
        _log.info(
            logfmt(
                "backup_started",
                backup=backup.id,
                server=cluster.name,
                kind=backup.kind,
                server_version=backup.server_version,
            )
        )
        try:
            with Writer(
                site.repository,
                backup.folder,
                compression=site.settings.compression,
                level=site.settings.level,
                keyring=sealing,
                pack_name=partial(maker.pack_name, site),
            ) as writer:
                made = maker.make(cluster, site, backup, writer, progress)
                backup = replace(
                    backup,
                    state=State.COMPLETE,
                    finished=datetime.now(UTC),
                    contents=made.contents,
                    details=made.details,
                    parent=made.parent,
                    messages="\n".join(part for part in (backup.messages, made.said) if part),
                )
                backup = rows.sealed(backup, writer)
            catalogue.put(site.catalogue, backup)
        except BaseException as error:
            _failed(site, backup, error)
            raise
    _log.info(logfmt("backup_complete", backup=backup.id, server=cluster.name, bytes=backup.size, rows=backup.rows))
    held = f"{backup.rows} rows" if backup.rows else f"{backup.raw_size} bytes"
    progress(f"{backup.id}: complete, {held} in {backup.size} bytes")
    for message in backup.messages.splitlines():
        progress(f"{backup.id}: {message}")
    try:
        if verify:
            backup = verify_one(site, backup, progress)
    finally:
        # That no test was possible here is no reason to have it in one place alone.
        backup = copy_backup(site, backup, progress)
        copy_wal(site, cluster.name, progress)
    if backup.state is State.FAILED:
        raise AtalaiaError(
            f"the backup {backup.id} was written, but it does not restore: {backup.error}",
            "it is kept and marked failed; correct the cause, then make another",
        )
    if site.settings.retention.any or site.settings.retention.wal:
        _prune_after(site, cluster.name, progress)
    return backup


def _prune_after(site: Site, server: str, progress: Progress) -> None:
    """Retention after a backup; that it could not be applied makes the backup no worse."""
    try:
        problems = prune(site, progress, (server,)).problems
    except AtalaiaError as error:
        problems = [error.what]
    for problem in problems:
        progress(f"retention: {problem}; `atalaia backup prune` tries again")


def list_backups(site: Site, progress: Progress = quiet) -> list[Backup]:
    """Every backup of the catalogue, oldest first; what was interrupted is marked failed and told first."""
    told_older(site, progress)
    if not site.catalogue.is_file():
        return []
    underway.recover(site, progress)
    return catalogue.list_backups(site.catalogue)


def verify(site: Site, identifiers: Sequence[str] = (), progress: Progress = quiet) -> list[Backup]:
    """Test backups (default: the last complete or verified one of each server); each as it is then.

    Raises InputError for an unknown id, Untested when a restore test is not possible here.
    """
    return [verify_one(site, backup, progress) for backup in chosen(site, identifiers, progress)]


def chosen(site: Site, identifiers: Sequence[str], progress: Progress) -> list[Backup]:
    """The named backups, or the last complete or verified one of each server. Raises InputError for an unknown id."""
    known = list_backups(site, progress)
    if identifiers:
        return [catalogue.get(site.catalogue, identifier) for identifier in identifiers]
    return list({backup.server: backup for backup in known if backup.usable}.values())


def restore(
    site: Site,
    identifier: str,
    target: Path | None = None,
    progress: Progress = quiet,
    *,
    keep_running: bool = False,
    wanted: Wanted = ALL,
) -> Restored:
    """Restore a backup into a new server: `target`, or restored/<id> beside the servers.

    It has a password of its own, and a free loopback port. Raises InputError and AtalaiaError (see
    restore_to).
    """
    list_backups(site, progress)
    backup = catalogue.get(site.catalogue, identifier)
    with using(site, backup.server, progress):
        return restore_to(site, backup, target, keep_running, progress, wanted)


def _begin(cluster: Cluster, site: Site, maker: Kind) -> Backup:
    """Look at the server, refuse what cannot be dumped safely, and note that the backup is running."""
    client = _client_version(cluster, maker.program)
    try:
        with connect(cluster, autocommit=True) as connection:
            version = (connection.info.parameter_status("server_version") or "").split(" ")[0]
            needed = connection.execute(
                "SELECT name, setting FROM pg_settings WHERE name = ANY(%s) AND setting NOT IN "
                "('', boot_val, 'C.UTF-8')",
                (list(_NEEDED_BY_FILES if maker.name == "physical" else _NEEDED_SETTINGS),),
            ).fetchall()
            remarks = [row[0] for row in connection.execute(_REMARKS.get(maker.name, _NONE)).fetchall()]
    except psycopg.Error as error:
        words = said(error)
        remedy = control.lasting_refusal(cluster, words)
        raise (InputError if remedy else AtalaiaError)(
            f"{cluster.name} cannot be backed up, for it takes no connection on {cluster.host} port "
            f"{cluster.port}: {words}",
            remedy or "start it with `atalaia up`",
        ) from error
    if version.split(".")[0] != client.split(".")[0]:
        raise AtalaiaError(
            f"{cluster.name} is PostgreSQL {version}, but {maker.program} is {client}",
            "client and server must have the same major version: install it, or correct `binaries` of the server",
        )
    at = datetime.now(UTC)
    site.catalogue.parent.mkdir(parents=True, exist_ok=True)
    backup = Backup(
        id=underway.identifier(site, cluster.name, at),
        server=cluster.name,
        kind=maker.name,
        state=State.RUNNING,
        started=at,
        server_version=version,
        client_version=client,
        settings=dict(needed),
        messages="\n".join(remarks),
    )
    process = Process.of(os.getpid())
    assert process
    catalogue.begin(site.catalogue, backup, process)
    return backup


_NONE = "SELECT WHERE false"
_CLOSED = """
SELECT format('database %I allows no connections and is not in the dump', datname)
  FROM pg_database WHERE NOT datallowconn AND datname <> 'template0'
"""
# What is left out without a word.
_REMARKS = {
    "logical": _CLOSED,
    "plain": f"""{_CLOSED} UNION ALL
SELECT format('settings and privileges of the database %I itself are not in the dump (its contents are)',
datname) FROM pg_database d WHERE datname IN ('postgres', 'template1') AND (EXISTS (SELECT FROM
pg_db_role_setting WHERE setdatabase = d.oid AND setrole = 0) OR datname = 'postgres' AND datacl IS NOT NULL)
""",
}


def _client_version(cluster: Cluster, program: str) -> str:
    said = run([cluster.installation.program(program), "--version"], seconds=30).stdout
    match = re.search(r"\(PostgreSQL\) (\S+)", said)
    return match[1] if match else "unknown"


def _failed(site: Site, backup: Backup, error: BaseException) -> None:
    what = error.what if isinstance(error, AtalaiaError) else f"interrupted ({type(error).__name__})"
    _log.error(logfmt("backup_failed", backup=backup.id, server=backup.server, problem=what))
    # The disk may be full: then the next command marks it (underway.recover), and the first error is what counts.
    with contextlib.suppress(AtalaiaError):
        underway.discard(site, backup, quiet)
        catalogue.put(site.catalogue, replace(backup, state=State.FAILED, finished=datetime.now(UTC), error=what))
