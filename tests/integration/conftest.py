"""Real servers for tests: initialised once a session, copied for each test, always stopped and removed."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from atalaia.backup.site import Site
from atalaia.backup.vault.local import LocalPlace
from atalaia.environment.backing import BackupsSettings
from atalaia.postgres import binaries, control, init
from atalaia.postgres.cluster import Cluster
from atalaia.runtime.accounts import server_account

NewServer = Callable[..., Cluster]


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that the servers' account can reach, as pytest's own (0700) cannot be."""
    folder = Path(tempfile.mkdtemp(prefix="atalaia-test-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def folder(open_folder: Path) -> Iterator[Path]:
    """A folder of the test's own in it."""
    path = Path(tempfile.mkdtemp(dir=open_folder))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def pristine(open_folder: Path) -> Callable[[int], Cluster]:
    """An initialised cluster of a major version, never started."""
    made: dict[int, Cluster] = {}

    def of(major: int) -> Cluster:
        if major not in made:
            directory = open_folder / f"pristine-{major}"
            directory.mkdir()
            password = open_folder / f"password-{major}"
            password.write_text("secret\n")
            password.chmod(0o600)
            made[major] = Cluster(
                name=f"pristine_{major}",
                directory=directory,
                port=1,
                listen=("127.0.0.1",),
                installation=binaries.find(major),
                account=server_account(),
                settings={"fsync": False},
                password_file=password,
            )
            init.initialise(made[major], durable=False)
        return made[major]

    return of


@pytest.fixture
def new_server(pristine: Callable[[int], Cluster], folder: Path) -> Iterator[NewServer]:
    """Makes running servers: `new_server("postgres_a", major=16, settings={}, run=True)`."""
    with contextlib.ExitStack() as stack:

        def make(name: str = "postgres_a", major: int = 16, run: bool = True, **changes: object) -> Cluster:
            original = pristine(major)
            directory = folder / name
            subprocess.run(["cp", "-a", original.directory, directory], check=True)
            password = folder / f"{name}.password"
            shutil.copy(original.password_file, password)
            cluster = replace(original, name=name, directory=directory, port=free_port(), password_file=password)
            cluster = replace(cluster, **changes)  # type: ignore[arg-type]
            stack.callback(end, cluster)
            if run:
                control.wait_ready(cluster, control.start(cluster))
            return cluster

        yield make


def end(cluster: Cluster) -> None:
    """Stop a test's server, whatever the test did to it."""
    if process := control.postmaster(cluster):
        assert control.stop(process, 20)


@pytest.fixture
def server(new_server: NewServer) -> Cluster:
    """A running PostgreSQL 16 called postgres_a."""
    return new_server()


@pytest.fixture
def site(folder: Path) -> Site:
    """An empty backup repository, and places for servers that the account can reach."""
    account = server_account()
    for name in ("temporary", "restored"):
        (folder / name).mkdir()
        (folder / name).chmod(0o711)
    return Site(
        repository=LocalPlace(folder / "repository"),
        catalogue=folder / "backups.sqlite",
        locks=folder / "run",
        temporary=folder / "temporary",
        restored=folder / "restored",
        account=account,
        binaries={},
        settings=BackupsSettings(kind="plain"),
        key_file=folder / "backup.keys",
    )
