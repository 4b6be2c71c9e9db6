"""What the environment keeps on disk and asks of the machine: state, secrets, ports."""

from __future__ import annotations

import json
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from atalaia.environment import ports, secrets, state
from atalaia.environment.errors import ConfigurationError, InputError
from atalaia.environment.load import find, load
from atalaia.environment.state import State


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_secrets_are_made_once_and_private(tmp_path: Path) -> None:
    place = State(tmp_path / ".atalaia")
    before = os.umask(0)
    try:
        one, two = secrets.password(place, "a"), secrets.password(place, "b")
    finally:
        os.umask(before)
    assert one != two
    assert len(one) == 32
    assert secrets.password(place, "a") == one
    assert mode(secrets.password_file(place, "a")) == 0o600
    assert mode(place.secrets) == 0o700


def test_what_is_remembered_is_added_to_what_was(tmp_path: Path) -> None:
    place = State(tmp_path / ".atalaia")
    assert place.remembered() == {}
    place.remember(ports={"a": 1})
    place.remember(other="x")
    place.remember(ports={"a": 2})
    assert State(place.root).remembered() == {"ports": {"a": 2}, "other": "x"}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"null"])
def test_a_damaged_state_file_is_as_none(tmp_path: Path, content: bytes) -> None:
    place = State(tmp_path / ".atalaia")
    place.create()
    place.file.write_bytes(content)
    assert place.remembered() == {}
    place.remember(a=1)
    assert place.remembered() == {"a": 1}


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    place = State(tmp_path / ".atalaia")
    place.remember(a=1)
    files = sorted(place.root.iterdir())

    def fails(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        if step == "write":
            patched.setattr(os, "fdopen", fails)
        elif step == "fsync":
            patched.setattr(os, "fsync", fails)
        else:
            patched.setattr(Path, "replace", fails)
        with pytest.raises(OSError, match="No space left"):
            place.remember(a=2)
    assert place.remembered() == {"a": 1}
    assert sorted(place.root.iterdir()) == files


def test_killed_while_remembering_the_file_is_always_whole(tmp_path: Path) -> None:
    code = f"""
import sys
from pathlib import Path
from atalaia.environment.state import State
place = State(Path({str(tmp_path)!r}))
n = 0
while True:
    place.remember(n=n, filler="x" * 5000)
    n += 1
    print(n, flush=True)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        written = 0
        for _ in range(50):
            written = int(process.stdout.readline())
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()
    found = json.loads((tmp_path / "state.json").read_text())
    assert found["n"] >= written - 1


def test_a_port_in_use_is_not_free_and_a_closed_one_is() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not ports.is_free(port, ("127.0.0.1",))
        assert not ports.is_free(port, ("::1", "127.0.0.1"))
        assert not ports.is_free(port, ("*",))
        assert ports.is_free(port, ("192.0.2.1",)), "an address that this machine has not cannot be taken"
    assert ports.is_free(port, ("127.0.0.1",))


def test_ports_with_real_sockets(tmp_path: Path) -> None:
    file = tmp_path / "atalaia.toml"
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        file.write_text(f"[servers.a]\n\nport = {port}\n[logs]\nurl = 'http://127.0.0.1:1'\n")
        with pytest.raises(ConfigurationError, match=f"atalaia.toml:3: port {port} is taken"):
            ports.assign(load(file))
        assert ports.assign(load(file), {"a": port}).assigned == {"a": port}
        file.write_text("[servers.a]\n[logs]\nurl = 'http://127.0.0.1:1'\n")
        environment = load(file)
        environment.state.remember(ports={"a": port})
        moved = ports.assign(environment)
        assert moved.assigned["a"] != port
        assert len(moved.notices) == 1
    assert ports.assign(environment).assigned == {"a": port}


def test_the_file_is_found_above_and_paths_are_meant_from_it(tmp_path: Path) -> None:
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    file = tmp_path / "atalaia.toml"
    file.write_text('[logs]\ndirectory = "logs"\n[backups]\nrepository = "/elsewhere"\n')
    assert find(deep) == file
    environment = load(file)
    assert environment.store_directory == tmp_path / "logs"
    assert environment.repositories == ("/elsewhere",)
    assert environment.state.root == tmp_path / ".atalaia"
    file.unlink()
    assert find(deep) == deep / "atalaia.toml"
    (tmp_path / ".atalaia").mkdir()
    (tmp_path / ".atalaia" / "state.json").write_text("{}")
    assert find(deep) == file
    assert state.State(tmp_path).logs == tmp_path / "store"


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "other.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"other\.toml (does not exist|cannot be read)"):
        load(file)
