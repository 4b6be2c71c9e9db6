"""Brings laid-out files to a consistent state: starts the server privately, lets it replay WAL, waits for the end."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from atalaia.backup.model import Progress, Target, Wanted, advance
from atalaia.backup.physical import copied, targets
from atalaia.backup.physical.journal import Journal
from atalaia.backup.wal import segment
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres import connect, control, settings
from atalaia.postgres.cluster import Cluster, Setting
from atalaia.postgres.tools import run
from atalaia.runtime import process as processes
from atalaia.runtime.process import Process

_EVERY = 5.0  # seconds between two lines on how far it is
_PHASE, _ENDED = "recovering", "recovered"  # of a restore's journal
_PREPARED = re.compile(r"^max_prepared_xacts setting:\s+(\d+)", re.MULTILINE)
_TITLE = re.compile(rb"startup\s+recovering ([0-9A-F]{24})")
_FATAL = re.compile(r"(?:FATAL|PANIC):\s+(.*)")
# The machine's trouble, not the backup's.
_TROUBLE = re.compile(
    r"No space left|out of memory|Cannot allocate|shared memory|could not access file|could not load library"
    r"|could not bind|could not create lock file|semaphores"
)
# The private server's own: nothing of the original's surroundings acts, nothing needs to survive a crash.
_PRIVATE: Mapping[str, Setting] = {
    "archive_mode": "off",
    "archive_command": "",
    "archive_cleanup_command": "",
    "recovery_end_command": "",
    "primary_conninfo": "",
    "primary_slot_name": "",
    "synchronous_standby_names": "",
    "max_logical_replication_workers": 0,
    "wal_level": "replica",
    "max_wal_senders": 0,
    "hot_standby": False,
    "recovery_min_apply_delay": 0,
    "ssl": False,
    "fsync": False,
    "autovacuum": False,
    "shared_buffers": "128MB",
    "huge_pages": "off",
    "max_wal_size": "4GB",
    "logging_collector": False,
    "log_destination": "stderr",
    "log_connections": False,
    "log_disconnections": False,
    "log_min_messages": "warning",
    "log_min_duration_statement": -1,
    "log_min_error_statement": "error",
}


@dataclass(frozen=True, slots=True)
class WalSource:
    """Where WAL comes from beside that of the backup, and where recovery is to stop; `finish` is called at the end.

    `begin` and `end` are the positions between which WAL is replayed at most, for whoever shows progress. `kept` are
    OIDs of databases whose DROP had begun there.
    """

    restore_command: str
    target: Target | None
    finish: Callable[[], None]
    begin: int = 0
    end: int = 0
    segment_size: int = 16 << 20
    kept: frozenset[int] = frozenset()


# Nothing but the WAL in the backup, up to the backup's own end: a command that finds nothing.
OWN_END = WalSource("false", None, lambda: None)


class Unrecoverable(AtalaiaError):
    """The server itself says that these files cannot be recovered."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """A server after recovery, running privately: it replayed WAL up to `lsn`."""

    cluster: Cluster
    process: Process
    lsn: str


@contextlib.contextmanager
def recovered(
    cluster: Cluster, wanted: Wanted, source: WalSource, journal: Journal, progress: Progress
) -> Iterator[Recovered]:
    """Recover the files of a private `cluster` as is wanted; it runs inside, and is stopped cleanly at the end.

    Where that was interrupted it goes on. Raises InputError when the target cannot be reached, AtalaiaError with the
    server's own words otherwise.
    """
    if journal.phase not in (_PHASE, _ENDED):
        _prepare(cluster, progress)
        journal.enter(_PHASE)
    overriding = {
        **_PRIVATE,
        **targets.settings(source.target),
        "restore_command": source.restore_command,
        "max_prepared_transactions": _prepared(cluster),
        "ignore_invalid_pages": not wanted.selection.everything,
        **_own_access(cluster),
        **({"summarize_wal": False} if cluster.installation.major >= 17 else {}),
    }
    kept = {n: (cluster.data / n).read_text(errors="surrogateescape") for n in ("pg_hba.conf", "pg_ident.conf")}
    cluster.stderr.unlink(missing_ok=True)
    process = control.start(cluster, unfinished=True, overriding=overriding)
    try:
        lsn = _wait(cluster, process, source, progress)
        if journal.phase != _ENDED:  # else no WAL was asked for this time
            source.finish()
            journal.enter(_ENDED)
        yield Recovered(cluster, process, lsn)
        if not control.stop(process, 600):
            raise AtalaiaError(f"{cluster.data} could not be shut down", f"see {cluster.stderr}")
    finally:
        if not control.stop(process, 5):
            processes.stop(process, ((signal.SIGKILL, 10.0),))
        for name, content in kept.items():
            settings.write_for(cluster.data / name, content, cluster.account)


def _prepare(cluster: Cluster, progress: Progress) -> None:
    data = cluster.data
    for name in ("tablespace_map", "standby.signal", "postmaster.pid"):
        (data / name).unlink(missing_ok=True)
    for line in copied.leave_out(cluster):
        progress(f"left out of the copy's settings: {line}")
    for name in ("recovery.signal", "pg_hba.conf", "pg_ident.conf"):
        if name == "recovery.signal" or not (data / name).is_file():
            settings.write_for(data / name, "", cluster.account)


def _own_access(cluster: Cluster) -> dict[str, Setting]:
    """Files of our own that let nobody but us in, whatever the original's say."""
    assert cluster.socket
    hba, ident = cluster.socket / "pg_hba.conf", cluster.socket / "pg_ident.conf"
    settings.write_for(hba, settings.hba_block(cluster), cluster.account)
    settings.write_for(ident, settings.ident(), cluster.account)
    return {"hba_file": str(hba), "ident_file": str(ident)}


def _prepared(cluster: Cluster) -> int:
    """How many prepared transactions the original allowed: recovery fails with fewer."""
    done = run([cluster.installation.program("pg_controldata"), str(cluster.data)], account=cluster.account)
    found = _PREPARED.search(done.stdout)
    if not found:
        raise AtalaiaError(f"{cluster.data} has no valid pg_control: {done.stderr.strip()}", "restore another backup")
    return int(found[1])


def _wait(cluster: Cluster, process: Process, source: WalSource, progress: Progress) -> str:
    """Wait until recovery has ended; the LSN that it replayed up to."""
    told, name = time.monotonic(), ""
    while True:
        seen = connect.ready(cluster)
        if seen.answer is connect.Answer.READY:
            break
        if seen.answer is connect.Answer.REFUSED:
            raise AtalaiaError(f"the restored server refuses us: {seen.reason}", f"see {cluster.stderr}")
        if process.wait(0.05):
            process.reap()
            raise _failure(cluster)
        if time.monotonic() > told + _EVERY and (now := _replaying(process)) not in ("", name):
            told, name = time.monotonic(), now
            progress(f"replaying WAL, at segment {name}")
            if source.end:
                at = segment.parse(name, source.segment_size).start
                advance(progress, "replaying WAL", max(0, at - source.begin), source.end - source.begin)
    with connect.connect(cluster, autocommit=True) as connection:
        row = connection.execute("SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn()::text").fetchone()
    if not row or row[0]:
        raise AtalaiaError("the restored server is still in recovery", f"see {cluster.stderr}")
    return str(row[1] or "")


def _replaying(process: Process) -> str:
    """The WAL segment that the startup process works on, as its title says."""
    with contextlib.suppress(OSError):
        for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
            if found := _TITLE.search(Path(f"/proc/{child}/cmdline").read_bytes()):
                return found[1].decode()
    return ""


def _failure(cluster: Cluster) -> AtalaiaError:
    fatal = _FATAL.findall(cluster.stderr.read_text(errors="replace"))
    words = fatal[0] if fatal else control.last_words(cluster)
    if "before consistent recovery point" in words:
        return InputError("the target lies before the end of the backup", "take an earlier backup or a later target")
    kind = AtalaiaError if not fatal or _TROUBLE.search(words) else Unrecoverable
    return kind(f"recovery failed: {words}", "restore another backup; see docs/backup-physical.md")
