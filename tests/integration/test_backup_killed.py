from __future__ import annotations

import base64
import contextlib
import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from atalaia.backup import catalogue, service
from atalaia.backup.model import State
from atalaia.backup.site import Site
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect
from atalaia.postgres.temporary import running
from atalaia.runtime.process import Process

CHILD = """
import base64, pickle, resource, sys
from pathlib import Path
from atalaia.backup import service
cluster, site, action, argument, limit = pickle.loads(base64.b64decode(sys.argv[1]))
tell = lambda line: print(line, flush=True)
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
try:
    if action == "backup":
        service.backup_now(cluster, site, tell, verify=False)
    elif action == "verify":
        service.verify(site, [argument], tell)
    elif action == "restore to":
        service.restore(site, argument.split()[0], Path(argument.split()[1]), tell)
    else:
        service.restore(site, argument, progress=tell)
except Exception as error:
    print(f"{type(error).__name__}: {error}", flush=True)
"""


def child(cluster: Cluster, site: Site, action: str, argument: str = "", limit: int = 0) -> subprocess.Popen[bytes]:
    """The service in a process of its own, that may be killed; what it tells is on its stdout."""
    order = base64.b64encode(pickle.dumps((cluster, site, action, argument, limit)))
    return subprocess.Popen([sys.executable, "-c", CHILD, order], stdout=subprocess.PIPE)


def until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for what gives no event: another process's state as the server or /proc shows it."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


@contextmanager
def stuck(server: Cluster) -> Iterator[Callable[[], object]]:
    """A server whose dump gets through one database and waits for a lock in the next; yields whether it
    waits.
    """
    with connect(server, autocommit=True) as connection:
        for name in ("aaa", "zzz"):
            connection.execute(f"CREATE DATABASE {name}".encode())
    with connect(server, "aaa") as connection:
        # More than a chunk, so that some of it is written while it waits.
        connection.execute("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 150000) i")
    with connect(server, "zzz") as connection:
        connection.execute("CREATE TABLE locked (a int)")
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    # The test may stop the server under these.
    gone = contextlib.suppress(psycopg.OperationalError)
    with gone, connect(server, autocommit=True) as observer, connect(server, "zzz") as holder:
        holder.execute("LOCK TABLE locked")
        yield lambda: observer.execute(waiting).fetchone() == (1,)


def dump_process(parent: int) -> psutil.Process:
    return next(p for p in psutil.Process(parent).children(recursive=True) if p.name() == "pg_dumpall")


def partials(site: Site) -> list[Path]:
    return sorted((site.repository.root / "postgres_a").rglob("*.partial"))


def dumps(site: Site) -> list[Path]:
    return sorted((site.repository.root / "postgres_a").rglob("*.sql.zst"))


def backup_in_thread(server: Cluster, site: Site) -> tuple[threading.Thread, list[BaseException]]:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            service.backup_now(server, site)
        except AtalaiaError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    return thread, errors


def test_kill_9_of_pg_dumpall_leaves_no_backup(server: Cluster, site: Site) -> None:
    with stuck(server) as waits:
        thread, errors = backup_in_thread(server, site)
        until(lambda: waits() and partials(site))
        assert partials(site)[0].stat().st_size > 100_000
        dump_process(os.getpid()).kill()
        thread.join(30)  # though the lock is still held
        assert not thread.is_alive()
    assert "ended by signal 9" in str(errors[0])
    assert partials(site) == dumps(site) == []
    (backup,) = service.list_backups(site)
    assert backup.state is State.FAILED
    assert "signal 9" in backup.error
    with pytest.raises(InputError, match="is failed"):
        service.restore(site, backup.id)
    with pytest.raises(InputError, match="nothing to verify"):
        service.verify(site, [backup.id])


def test_kill_9_of_the_backup_itself_is_found_by_the_next_command(server: Cluster, site: Site) -> None:
    with stuck(server) as waits:
        process = child(server, site, "backup")
        until(lambda: waits() and partials(site))
        orphan = dump_process(process.pid)
        process.kill()
        process.communicate()
        assert len(partials(site)) == 1
        assert catalogue.list_backups(site.catalogue)[0].state is State.RUNNING
        told: list[str] = []
        (backup,) = service.list_backups(site, told.append)
        assert backup.state is State.FAILED
        assert "interrupted" in backup.error
        assert partials(site) == dumps(site) == []
        assert len(told) == 2
    psutil.wait_procs([orphan], timeout=30)
    again = service.backup_now(server, site)
    assert again.state is State.VERIFIED
    assert [b.state for b in service.list_backups(site)] == [State.FAILED, State.VERIFIED]


def test_a_running_backup_is_left_alone_and_a_second_one_refused(server: Cluster, site: Site) -> None:
    with stuck(server) as waits:
        process = child(server, site, "backup")
        until(lambda: waits() and partials(site))
        (backup,) = service.list_backups(site)
        assert backup.state is State.RUNNING
        with pytest.raises(AtalaiaError, match=rf"postgres_a is already running \(process {process.pid}\)"):
            service.backup_now(server, site)
        assert len(partials(site)) == 1
    process.communicate(timeout=60)
    assert service.list_backups(site)[0].state is State.COMPLETE


def test_the_server_stopping_half_way_fails_the_backup(server: Cluster, site: Site) -> None:
    with stuck(server) as waits:
        thread, errors = backup_in_thread(server, site)
        until(waits)
        running_server = control.postmaster(server)
        assert running_server
        control.stop(running_server)
        thread.join(30)
    assert "pg_dumpall of postgres_a ended with status 1" in str(errors[0])
    assert "terminating connection" in str(errors[0])
    assert partials(site) == dumps(site) == []
    with pytest.raises(AtalaiaError, match="takes no connection"):
        service.backup_now(server, site)


def test_a_full_disk_fails_the_backup_and_says_so(server: Cluster, site: Site) -> None:
    with connect(server) as connection:
        connection.execute("CREATE TABLE t AS SELECT i, md5(i::text) FROM generate_series(1, 50000) i")
    process = child(server, site, "backup", limit=300_000)
    said = process.communicate(timeout=60)[0].decode()
    assert "dump.sql.zst." in said
    assert "File too large" in said
    assert "Traceback" not in said
    assert partials(site) == dumps(site) == []
    (backup,) = service.list_backups(site)
    assert backup.state is State.FAILED
    assert "File too large" in backup.error


def test_kill_9_of_a_restore_test_leaves_nothing_that_the_next_does_not_remove(server: Cluster, site: Site) -> None:
    backup = service.backup_now(server, site, verify=False)
    process = child(server, site, "verify", backup.id)
    # The server has started; initdb leaves no stderr.log, but a passing postmaster.pid.
    until(
        lambda: list(site.temporary.glob("*/stderr.log")) and list(site.temporary.glob("server-*/data/postmaster.pid"))
    )
    process.kill()
    process.communicate()
    (left,) = site.temporary.iterdir()
    pid = int((left / "data" / "postmaster.pid").read_text().split()[0])
    told: list[str] = []
    (judged,) = service.verify(site, [backup.id], told.append)
    assert judged.state is State.VERIFIED
    assert any(left.name in line and "that was killed" in line for line in told)
    assert list(site.temporary.iterdir()) == []
    assert Process.of(pid) is None


@pytest.mark.parametrize("moment", ["initdb", "psql"])
def test_kill_9_of_a_restore_is_cleared_by_the_next(server: Cluster, site: Site, moment: str) -> None:
    backup = service.backup_now(server, site, verify=False)
    process = child(server, site, "restore", backup.id)
    sign = {"initdb": "*/data/postmaster.pid", "psql": "*/stderr.log"}[moment]
    until(lambda: list(site.restored.glob(sign)))
    process.kill()
    process.communicate()
    told: list[str] = []
    restored = service.restore(site, backup.id, progress=told.append)
    assert any("an interrupted restore" in line for line in told)
    with running(restored.cluster):
        pass


def test_no_socket_is_left_by_any_of_it(
    server: Cluster, site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = folder / "t"
    sockets.mkdir()
    sockets.chmod(0o711)
    monkeypatch.setenv("TMPDIR", str(sockets))
    backup = service.backup_now(server, site, verify=False)
    for action, sign in (("restore", "restored/*/data"), ("verify", "temporary/*/data")):
        process = child(server, site, action, backup.id)
        until(lambda sign=sign: list(folder.glob(sign)))  # type: ignore[misc]
        process.kill()
        process.communicate()
        assert len(list(sockets.glob("atalaia-*"))) == 1
        assert service.verify(site, [backup.id])[0].state is State.VERIFIED
        service.restore(site, backup.id, folder / f"after-{action}" if action == "verify" else None)
        assert list(sockets.glob("atalaia-*")) == []
