"""Throw-away servers, for restore tests: private to us, fast, and gone afterwards whatever happens."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from atalaia.environment.errors import AtalaiaError
from atalaia.environment.state import write_atomically
from atalaia.postgres import control, init
from atalaia.postgres.binaries import Installation
from atalaia.postgres.cluster import Cluster, Setting
from atalaia.postgres.places import make
from atalaia.runtime import process as processes
from atalaia.runtime.accounts import Account
from atalaia.runtime.process import Process

_OWNER = "owner.json"
_SERVER, STAGING = "server-", "staging-"
_NEW_PREFIX = "new-"  # PID and start time of its owner follow, until they stand in its file
_SOCKET = "socket"
# A crash may destroy it: nobody will miss it.
FAST: Mapping[str, Setting] = {
    "fsync": False,
    "synchronous_commit": False,
    "full_page_writes": False,
    "autovacuum": False,
    "wal_level": "minimal",
    "max_wal_senders": 0,
    "max_wal_size": "4GB",
    "maintenance_work_mem": "128MB",
    "jit": False,  # each connection would load LLVM anew, for statements that run once
    "log_connections": False,
    "log_disconnections": False,
    "log_checkpoints": False,
    "log_min_duration_statement": -1,
}


@contextlib.contextmanager
def temporary(
    installation: Installation,
    account: Account | None,
    parent: Path,
    settings: Mapping[str, Setting] | None = None,
) -> Iterator[Cluster]:
    """A new, running server in a directory below `parent`, stopped and removed at the end.

    It listens on no port: a socket that only we may use needs no password, which a restored dump would
    overwrite. `account` must be able to reach `parent`. Raises AtalaiaError when it cannot be started.
    """
    with vacant(installation, account, parent, settings) as cluster, private(cluster) as hidden:
        init.initialise(hidden, durable=False)
        with running(hidden, patience=5):
            yield hidden


@contextlib.contextmanager
def vacant(
    installation: Installation,
    account: Account | None,
    parent: Path,
    settings: Mapping[str, Setting] | None = None,
) -> Iterator[Cluster]:
    """A server without data, in a directory below `parent` that is removed at the end."""
    folder = own(parent, account)
    try:
        cluster = Cluster(
            name="the temporary server",
            directory=folder,
            port=5432,
            listen=(),
            installation=installation,
            account=account,
            settings={**FAST, **(settings or {})},
            password_file=folder / "password",
        )
        write_atomically(cluster.password_file, secrets.token_urlsafe(24), mode=0o600)
        yield cluster
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def running(cluster: Cluster, patience: float = 60, *, unfinished: bool = False) -> Iterator[str]:
    """Start a server and yield its version; stop it at the end, also when an exception passes."""
    process = control.start(cluster, unfinished=unfinished)
    try:
        yield control.wait_ready(cluster, process)
    finally:
        if not control.stop(process, patience):
            processes.stop(process, ((signal.SIGKILL, 10.0),))


@contextlib.contextmanager
def private(cluster: Cluster) -> Iterator[Cluster]:
    """`cluster` listening on no address, only on a socket in a new directory of mode 0700, removed at the end.

    Where that is stands in the file `socket` of the cluster's directory, for whoever comes after a kill.
    """
    # sun_path holds 107 bytes (unix(7)); a long TMPDIR would not fit, and a private one lets no account pass.
    base = Path(tempfile.gettempdir())
    if len(str(base)) > 60 or (cluster.account and not cluster.account.reaches(base)):
        base = Path("/tmp")  # noqa: S108 - mkdtemp makes a directory of its own in it
    socket = base / f"atalaia-{secrets.token_hex(8)}"
    note = cluster.directory / _SOCKET
    try:
        write_atomically(note, str(socket))  # first: a kill must not leave a directory that nobody knows
        socket.mkdir(mode=0o700)
        if cluster.account:
            os.chown(socket, cluster.account.uid, cluster.account.gid)
        yield replace(cluster, socket=socket)
    finally:
        shutil.rmtree(socket, ignore_errors=True)
        note.unlink(missing_ok=True)


def own(parent: Path, account: Account | None, prefix: str = _SERVER) -> Path:
    """A new folder that says whose it is. `sweep` finds it at any moment: first its name says that, then its file."""
    process = Process.of(os.getpid())
    assert process
    folder = Path(tempfile.mkdtemp(prefix=f"{_NEW_PREFIX}{process.pid}-{process.started}-", dir=parent))
    make(folder, None, account)
    process.save(folder / _OWNER)
    return folder.rename(parent / f"{prefix}{folder.name.rsplit('-', 1)[-1]}")


def sweep(parent: Path) -> list[Path]:
    """Stop and remove the temporary servers and other folders below `parent` whose owner was killed; these."""
    removed = []
    for folder in sorted([*parent.glob(f"{_SERVER}*"), *parent.glob(f"{STAGING}*")]):
        if not Process.read(folder / _OWNER):
            end_abandoned(folder)
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    for folder in sorted(parent.glob(f"{_NEW_PREFIX}*-*-*")):
        pid, started = folder.name.removeprefix(_NEW_PREFIX).split("-")[:2]
        if not Process(int(pid), int(started)).alive():
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def end_abandoned(folder: Path) -> None:
    """End what a process that was killed has left running in `folder`, and remove its socket.

    Raises AtalaiaError when it does not end.
    """
    for process in _processes_of(folder.resolve()):
        # First the server, which ends its own; then what has not ended, such as an initdb in the middle of its work.
        if not processes.stop(process, ((signal.SIGQUIT, 5.0), (signal.SIGKILL, 10.0))):
            raise AtalaiaError(
                f"the process {process.pid}, left behind in {folder}, does not end", f"end it, then delete {folder}"
            )
    with contextlib.suppress(OSError):
        shutil.rmtree((folder / _SOCKET).read_text())


def _processes_of(folder: Path) -> Iterator[Process]:
    """PostgreSQL's processes that work in `folder`, oldest first, as long as they run."""
    for path in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            name = (path / "comm").read_text().strip()
            inside = (path / "cwd").readlink().is_relative_to(folder)
            named = os.fsencode(folder) in (path / "cmdline").read_bytes()
        except OSError:
            continue  # it has ended, or is another user's
        if name in ("postgres", "initdb") and (inside or named) and (process := Process.of(int(path.name))):
            yield process
