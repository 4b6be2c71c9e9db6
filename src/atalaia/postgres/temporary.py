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
from atalaia.postgres.settings import CONF
from atalaia.runtime import process as processes
from atalaia.runtime.accounts import Account
from atalaia.runtime.process import Process

_OWNER = "owner.json"
_FOLDER_PREFIX = "server-"
_SOCKET_PREFIX = "atalaia-"
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
    folder = _own(parent, account)
    try:
        cluster = private(
            Cluster(
                name="the temporary server",
                directory=folder,
                port=5432,
                listen=(),
                installation=installation,
                account=account,
                settings={**FAST, **(settings or {})},
                password_file=folder / "password",
            )
        )
        write_atomically(cluster.password_file, secrets.token_urlsafe(24), mode=0o600)
        with contextlib.ExitStack() as stack:
            stack.callback(_remove_socket, cluster)
            init.initialise(cluster, durable=False)
            with running(cluster, patience=5):
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


def private(cluster: Cluster) -> Cluster:
    """`cluster` listening on no address, only on a socket in a new directory of mode 0700."""
    # sun_path holds 107 bytes (unix(7)); a long TMPDIR would not fit.
    base = tempfile.gettempdir()
    base = base if len(base) < 60 else "/tmp"  # noqa: S108 - mkdtemp makes a directory of its own in it
    socket = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir=base))
    if cluster.account:
        if not cluster.account.reaches(socket.parent):
            socket.rmdir()
            socket = Path(tempfile.mkdtemp(prefix=_SOCKET_PREFIX, dir="/tmp"))
        os.chown(socket, cluster.account.uid, cluster.account.gid)
    return replace(cluster, socket=socket)


def _remove_socket(cluster: Cluster) -> None:
    if cluster.socket:
        shutil.rmtree(cluster.socket, ignore_errors=True)


def _own(parent: Path, account: Account | None) -> Path:
    """A new folder that says whose it is; it has a name that `sweep` looks at only when it does."""
    folder = Path(tempfile.mkdtemp(prefix="new-", dir=parent))
    make(folder, None, account)
    process = Process.of(os.getpid())
    assert process
    process.save(folder / _OWNER)
    return folder.rename(parent / folder.name.replace("new-", _FOLDER_PREFIX))


def sweep(parent: Path) -> list[Path]:
    """Stop and remove the temporary servers below `parent` whose owner was killed; what was removed."""
    removed = []
    for folder in sorted(parent.glob(f"{_FOLDER_PREFIX}*")):
        if not Process.read(folder / _OWNER):
            end_abandoned(folder)
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def end_abandoned(folder: Path) -> None:
    """End the private server of a folder, left running by a process that was killed, and remove its socket.

    Raises AtalaiaError when it does not end.
    """
    cluster = Cluster("", folder, 0, (), Installation(0, "", Path(), ""), None, {}, folder)
    process = control.postmaster(cluster)
    if process and not processes.stop(process, ((signal.SIGQUIT, 15.0), (signal.SIGKILL, 10.0))):
        raise AtalaiaError(
            f"the server {process.pid}, left behind in {folder}, does not end",
            f"end it, then delete {folder}",
        )
    with contextlib.suppress(OSError):
        for line in (cluster.data / CONF).read_text().splitlines():
            name, _, value = line.partition(" = ")
            socket = Path(value.strip("'"))
            if name == "unix_socket_directories" and socket.name.startswith(_SOCKET_PREFIX):
                shutil.rmtree(socket, ignore_errors=True)
