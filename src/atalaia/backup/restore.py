"""Restores a backup into a new server directory with a password of its own, never over another."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import secrets
import shlex
import shutil
import socket
from collections.abc import Callable
from dataclasses import asdict, replace
from datetime import UTC
from pathlib import Path

from atalaia.backup.kinds import KINDS
from atalaia.backup.model import ALL, Backup, Progress, Restored, Wanted, advance, logfmt
from atalaia.backup.restoring.plan import check_room, plan
from atalaia.backup.site import Site
from atalaia.backup.sources import opened
from atalaia.backup.vault.place import Damaged, PlaceError
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
# What a kind leaves while it fills a directory, when it can go on where it was interrupted.
JOURNAL = "restored.json"
_ORDER = "order.json"
_log = logging.getLogger("atalaia.backup")


def restore_to(
    site: Site,
    backup: Backup,
    target: Path | None,
    keep_running: bool,
    progress: Progress,
    wanted: Wanted = ALL,
    password_file: Path | None = None,
) -> Restored:
    """Restore into `target` (default: see directory_of), compare, set a new superuser password.

    A restore of the same into the same directory that was interrupted goes on where it was, when its kind can.
    `password_file` has the superuser's password, in place of a new one. Raises InputError when the backup cannot be
    restored or `target` is not empty, AtalaiaError when restoring fails; what was restored so far is then removed,
    unless only the repository was away.
    """
    directory = (target or directory_of(site, backup, wanted)).absolute()
    planned = plan(site, backup, wanted, directory)
    if wanted.selection.schemas or wanted.selection.tables:
        raise InputError(
            "single schemas and tables go into a server that exists", "name it: --into SERVER or --into SERVER/DATABASE"
        )
    reader = opened(site, backup, progress)
    order = _order(backup, wanted)
    resumes = _reclaim(directory, order, progress)
    if not resumes:
        _check_place(directory, site)
        check_room(planned)
        if damaged := reader.damage(told(progress, f"{backup.id}: checking", reader.manifest.size)):
            raise Damaged(
                f"{backup.id} cannot be restored: {'; '.join(damaged)}",
                "restore another; `atalaia backup verify` records this",
            )
    cluster = Cluster(
        name=backup.id,
        directory=directory,
        port=_free_port(),
        listen=("127.0.0.1", "::1"),
        installation=site.installation(backup.major),
        account=site.account,
        settings=dict(backup.settings),
        password_file=password_file or directory / "secret" / "password",
    )
    existed = directory.is_dir() and not resumes
    progress(f"{backup.id}: {'going on with the restore in' if resumes else 'restoring into'} {directory}")
    try:
        seconds = _fill(site, cluster, reader, backup, wanted, order, progress)
    except BaseException as error:
        if (directory / JOURNAL).is_file() and (isinstance(error, PlaceError) or not isinstance(error, Exception)):
            (directory / RESTORING).write_text("")  # nobody is at it: the same command goes on
            progress(f"{backup.id}: what was restored so far is kept; the same command goes on with it")
        else:
            _clear(directory, keep=existed)
        raise
    process = None
    if keep_running:
        process = control.start(cluster)
        control.wait_ready(cluster, process)
    _log.info(logfmt("backup_restored", backup=backup.id, directory=directory, restore_seconds=f"{seconds:.3f}"))
    progress(f"{backup.id}: restored in {seconds:.1f} s" + (f", {backup.rows} rows" if backup.rows else ""))
    return Restored(backup, cluster, round(seconds, 3), _commands(cluster, keep_running), process)


def directory_of(site: Site, backup: Backup, wanted: Wanted) -> Path:
    """Where a restore goes when nothing else is said: its own directory for each backup, moment and selection."""
    name, target = backup.id, wanted.target
    if target:
        at = f"{target.time.astimezone(UTC):%Y-%m-%dT%H%M%S.%fZ}" if target.time else target.lsn or target.name or "end"
        name += "_at_" + re.sub(r"[^A-Za-z0-9._-]", "-", at)[:60] + ("" if target.inclusive else "_before")
    if databases := wanted.selection.databases:
        name += "_of_" + re.sub(r"[^A-Za-z0-9._-]", "-", "_".join(databases))[:60]
    return site.restored / name


def told(progress: Progress, what: str, total: int) -> Callable[[int], None]:
    """A counter of bytes that tells how far `what` is."""
    done = 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        advance(progress, what, done, total)

    return count


def _order(backup: Backup, wanted: Wanted) -> str:
    """Which restore it is: of this backup, to this target, of this selection."""
    return json.dumps({"backup": backup.id, "sha256": backup.sha256, **asdict(replace(wanted, jobs=0))}, default=str)


def _reclaim(directory: Path, order: str, progress: Progress) -> bool:
    """See to what a restore that was interrupted has left in `directory`, recognised by its marker.

    Whether it was the same and goes on; another is removed. Raises InputError when one is under way.
    """
    marker = directory / RESTORING
    if not marker.is_file():
        for path in directory.glob(f".{RESTORING}.*.partial"):  # killed while it wrote the marker, before all else
            pid = path.name.split(".")[2]
            if pid.isdecimal() and not Process.of(int(pid)):
                path.unlink(missing_ok=True)
        return False
    if found := Process.read(marker):
        raise InputError(
            f"a restore into {directory} is under way (process {found.pid})", "wait until it has ended, or end it"
        )
    end_abandoned(directory)
    with contextlib.suppress(OSError):
        if (directory / JOURNAL).is_file() and (directory / _ORDER).read_text() == order:
            return True
    _clear(directory, keep=True)
    progress(f"removed what an interrupted restore had left in {directory}")
    return False


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


def _fill(
    site: Site, cluster: Cluster, reader: Reader, backup: Backup, wanted: Wanted, order: str, progress: Progress
) -> float:
    """Make the server, stopped, durable, and ready for its own start; seconds that the restore itself took."""
    make(cluster.directory, None, cluster.account)
    process = Process.of(os.getpid())
    assert process
    process.save(cluster.directory / RESTORING)
    write_atomically(cluster.directory / _ORDER, order, mode=0o600)
    if not cluster.password_file.exists():
        cluster.password_file.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomically(cluster.password_file, secrets.token_urlsafe(24) + "\n", mode=0o600)
    seconds = KINDS[backup.kind].fill(site, backup, reader, cluster, wanted, progress)
    settings.write(cluster)
    if backup.kind != "physical":  # which has put back the original's
        settings.write_for(cluster.data / "pg_ident.conf", "", cluster.account)
    progress(f"{backup.id}: making it durable")
    initdb = cluster.installation.program("initdb")
    done = run([initdb, "--sync-only", f"--pgdata={cluster.data.resolve()}"], account=cluster.account, seconds=86_400)
    if done.returncode:
        raise AtalaiaError(f"{cluster.data} could not be synced to disk: {done.stderr.strip()}", "check the disk")
    init.unmark(cluster)
    for name in (JOURNAL, _ORDER, RESTORING):
        (cluster.directory / name).unlink(missing_ok=True)
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
