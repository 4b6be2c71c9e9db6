"""Restores a backup into a new server directory with a password of its own, never over another."""

from __future__ import annotations

import logging
import os
import secrets
import shlex
import shutil
import socket
from pathlib import Path

from atalaia.backup.kinds import KINDS
from atalaia.backup.model import Backup, Progress, Restored, Wanted, logfmt
from atalaia.backup.site import Site
from atalaia.backup.sources import opened
from atalaia.backup.vault.place import Damaged
from atalaia.backup.vault.reader import Reader
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.state import sync_directory, write_atomically
from atalaia.postgres import control, init, settings
from atalaia.postgres.cluster import SUPERUSER, Cluster
from atalaia.postgres.connect import environment_variables
from atalaia.postgres.places import make
from atalaia.postgres.temporary import end_abandoned
from atalaia.postgres.tools import run
from atalaia.runtime.process import Process

RESTORING = "restoring"
_log = logging.getLogger("atalaia.backup")


def restore_to(site: Site, backup: Backup, target: Path | None, keep_running: bool, progress: Progress) -> Restored:
    """Restore into `target` (default: the site's restored/<id>), compare, set a new superuser password.

    Raises InputError when the backup cannot be restored or `target` is not empty, AtalaiaError when restoring
    fails; what was restored so far is then removed.
    """
    if not backup.usable:
        raise InputError(
            f"{backup.id} is {backup.state.value}{': ' + backup.error if backup.error else ''}",
            "restore another; `atalaia backup list` shows them (docs/backup.md says how to read a file by hand)",
        )
    reader = opened(site, backup, progress)
    if damaged := reader.damage():
        raise Damaged(
            f"{backup.id} cannot be restored: {'; '.join(damaged)}",
            "restore another; `atalaia backup verify` records this",
        )
    directory = (target or site.restored / backup.id).absolute()
    _reclaim(directory, progress)
    _check_place(directory, site)
    cluster = Cluster(
        name=backup.id,
        directory=directory,
        port=_free_port(),
        listen=("127.0.0.1", "::1"),
        installation=site.installation(backup.major),
        account=site.account,
        settings=dict(backup.settings),
        password_file=directory / "secret" / "password",
    )
    existed = directory.is_dir()
    progress(f"{backup.id}: restoring into {directory}")
    try:
        seconds = _fill(site, cluster, reader, backup, progress)
    except BaseException:
        _clear(directory, keep=existed)
        raise
    process = None
    if keep_running:
        process = control.start(cluster)
        control.wait_ready(cluster, process)
    _log.info(logfmt("backup_restored", backup=backup.id, directory=directory, restore_seconds=f"{seconds:.3f}"))
    progress(f"{backup.id}: {backup.rows} rows restored in {seconds:.1f} s and compared")
    return Restored(backup, cluster, round(seconds, 3), _commands(cluster, keep_running), process)


def _reclaim(directory: Path, progress: Progress) -> None:
    """Remove what a restore that was killed has left in `directory`, recognised by its marker."""
    marker = directory / RESTORING
    if marker.is_file() and not Process.read(marker):
        end_abandoned(directory)
        _clear(directory, keep=True)
        progress(f"removed what an interrupted restore had left in {directory}")


def _check_place(directory: Path, site: Site) -> None:
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(
            f"{directory} exists and is not empty", "nothing was changed; give a new or an empty directory"
        )
    if site.account and not site.account.reaches(directory):
        raise InputError(
            f"the account {site.account.name}, under which the server will run, cannot reach {directory}",
            "give a directory that it can reach, or leave it out for the default",
        )


def _fill(site: Site, cluster: Cluster, reader: Reader, backup: Backup, progress: Progress) -> float:
    """Make the server, stopped, durable, and ready for its own start; seconds that the restore itself took."""
    make(cluster.directory, None, cluster.account)
    process = Process.of(os.getpid())
    assert process
    process.save(cluster.directory / RESTORING)
    cluster.password_file.parent.mkdir(mode=0o700)
    write_atomically(cluster.password_file, secrets.token_urlsafe(24) + "\n", mode=0o600)
    seconds = KINDS[backup.kind].fill(site, backup, reader, cluster, Wanted(), progress)
    settings.write(cluster)
    settings.write_for(cluster.data / "pg_ident.conf", "", cluster.account)
    progress(f"{backup.id}: making it durable")
    initdb = cluster.installation.program("initdb")
    done = run([initdb, "--sync-only", f"--pgdata={cluster.data.resolve()}"], account=cluster.account, seconds=86_400)
    if done.returncode:
        raise AtalaiaError(f"{cluster.data} could not be synced to disk: {done.stderr.strip()}", "check the disk")
    init.unmark(cluster)
    (cluster.directory / RESTORING).unlink()
    sync_directory(cluster.directory)
    return seconds


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _clear(directory: Path, *, keep: bool) -> None:
    """Remove what a failed restore has made, and `directory` itself unless it was there before."""
    for path in directory.iterdir() if directory.is_dir() else ():
        shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)


def _commands(cluster: Cluster, runs: bool) -> tuple[str, ...]:
    """What to type to start the restored server, to connect to it and to stop it."""
    given = environment_variables(cluster)
    as_account = ("runuser", "-u", cluster.account.name, "--") if cluster.account else ()
    pg_ctl = str(cluster.installation.program("pg_ctl"))
    data = str(cluster.data)
    start = shlex.join([*as_account, pg_ctl, "-D", data, "-l", str(cluster.log / "start.log"), "-w", "start"])
    psql = shlex.join(
        [
            *("env", f"PGPASSFILE={given['PGPASSFILE']}", str(cluster.installation.program("psql"))),
            *("-h", cluster.host, "-p", str(cluster.port), "-U", SUPERUSER, "-d", "postgres"),
        ]
    )
    stop = shlex.join([*as_account, pg_ctl, "-D", data, "-m", "fast", "stop"])
    return (psql, stop) if runs else (start, psql, stop)
