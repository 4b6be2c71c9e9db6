"""What a repository may do to backups: no backup is called good that does not restore, none that restores is lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from atalaia.backup import catalogue
from atalaia.backup.model import Backup, State
from tests.integration.logs_support import small_disk
from tests.integration.object_store import Fault, Store, bucket, moto
from tests.scenario.support import Home, home

SERVER = "postgres_a"
CONFIGURATION = """
[servers.postgres_a]
version = 16

[collection]
targets = []

[backups]
kind = "plain"
encryption = true
patience = "1s"
options_file = "secret.toml"
repository = "{repository}"
copies = [{copies}]
"""


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with moto() as address, bucket(address) as made:
        yield made


@pytest.fixture
def place(store: Store, reachable: Path) -> Iterator[Home]:
    """An environment whose repository is a folder, with a copy in an object store; a table in its server."""
    with home(reachable / "home") as made:
        secret = made.folder / "secret.toml"
        secret.write_text("".join(f'{name} = "{value}"\n' for name, value in store.options.items()))
        secret.chmod(0o600)
        configure(made, store, repository="repository")
        made.run("up", seconds=120)
        with made.connect(SERVER) as connection:
            connection.execute("CREATE TABLE ledger AS SELECT i, md5(i::text) note FROM generate_series(1, 5000) i")
        yield made
        store.fault = lambda *_: None


def configure(made: Home, store: Store, repository: str, copies: bool = True) -> None:
    where = json.dumps(store.address) if copies else ""
    (made.folder / "atalaia.toml").write_text(CONFIGURATION.format(repository=repository, copies=where))


def listed(made: Home) -> list[Backup]:
    """What the catalogue says, read without a command."""
    return catalogue.list_backups(made.state / "backups.sqlite")


def packs(made: Home, backup: object) -> dict[str, Path]:
    """The objects of a backup in the folder, by what they are."""
    folder = made.folder / "repository" / SERVER / str(backup)
    found = {path.name.split(".")[0]: path for path in folder.iterdir()}
    assert {"dump", "index", "manifest"} <= set(found)
    return found


def restores(made: Home, backup: object, *more: str) -> subprocess.CompletedProcess[str]:
    done = made.run("backup", "restore", str(backup), "--json", *more, code=None)
    if done.returncode == 0:
        shutil.rmtree(json.loads(done.stdout)["directory"])
    return done


def test_faults_of_repositories(place: Home, store: Store) -> None:
    # Without a key file nothing is encrypted, and the command that makes one is told.
    refused = place.run("backup", "now", code=2)
    assert "backup key new" in refused.stderr
    assert listed(place) == []
    said = place.run("backup", "key", "new").stdout
    assert "keep a copy elsewhere" in said
    key_file = next((place.state / "secrets").glob("backup.keys"))
    kept = key_file.read_text()
    assert place.run("backup", "key", "show").stdout == kept

    (made,) = json.loads(place.run("backup", "now", "--json").stdout)
    assert made["state"] == "verified"
    assert [copy["problem"] for copy in made["copies"]] == [""]
    name = made["id"]

    # Damage is told, and mended from the copy.
    dump = packs(place, name)["dump"]
    whole = dump.read_bytes()
    dump.write_bytes(whole[:-9] + bytes([whole[-9] ^ 4]) + whole[-8:])
    fast = place.run("backup", "verify", "--fast", name, code=1)
    assert f"{dump} has changed since it was written" in fast.stderr
    assert listed(place)[0].state is State.VERIFIED
    place.run("backup", "copy", name)
    assert dump.read_bytes() == whole
    # Damaged in the first repository, it restores from the copy, and proves from it.
    dump.unlink()
    done = restores(place, name)
    assert done.returncode == 0, done.stderr
    assert "it is whole elsewhere" in place.run("backup", "verify", name).stderr
    assert listed(place)[0].state is State.VERIFIED

    # And the store answers 500: no copy is whole, so nothing is restored or judged, and the reasons are told.
    store.fault = lambda *_: Fault(status=500)
    away = place.run("backup", "verify", name, code=1).stderr
    assert "could not be tested" in away
    assert store.address in away
    assert listed(place)[0].state is State.VERIFIED
    # A new backup is made all the same, and that its copy is missing is told.
    second = place.run("backup", "now", "--json", code=1)
    (made,) = json.loads(second.stdout)
    assert made["state"] == "verified"
    assert "NOT in s3://" in second.stderr
    store.fault = lambda *_: None
    place.run("backup", "copy", name, made["id"])
    assert not any(copy.problem for backup in listed(place) for copy in backup.copies)
    assert dump.exists()

    # The wrong key, and none: nothing is judged, and what to do is told.
    key_file.unlink()
    assert "there is no key file" in place.run("backup", "verify", name, code=1).stderr
    place.run("backup", "key", "new")
    assert "not in the key file" in place.run("backup", "key", "check", code=1).stdout
    done = restores(place, name)
    assert done.returncode == 1
    assert "backup key import" in done.stderr
    (place.folder / "kept").write_text(kept)
    place.run("backup", "key", "import", str(place.folder / "kept"))
    place.run("backup", "key", "rotate", "--rewrap")
    place.run("backup", "key", "check")
    assert len(json.loads(key_file.read_text())["keys"]) == 3

    # The catalogue damaged, then lost: told what to do, then made again from the store alone.
    lost = place.state / "backups.sqlite"
    before = listed(place)
    lost.write_bytes(b"not a catalogue")
    assert "backup rebuild" in place.run("backup", "list", code=1).stderr
    lost.unlink()
    place.run("backup", "rebuild", "--from", store.address)
    assert [(b.id, b.state, b.sha256) for b in listed(place)] == [(b.id, b.state, b.sha256) for b in before]

    # A new machine: atalaia.toml, the store and the keys are enough.
    with home(place.folder.parent / "new") as machine:
        for file in ("atalaia.toml", "secret.toml"):
            (machine.folder / file).write_bytes((place.folder / file).read_bytes())
        (machine.folder / "secret.toml").chmod(0o600)
        (machine.folder / "keys").write_text(key_file.read_text())
        machine.run("backup", "key", "import", str(machine.folder / "keys"))
        # Its own first repository is an empty folder.
        machine.run("backup", "rebuild", code=None)
        done = restores(machine, name)
        assert done.returncode == 0, done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
def test_a_full_repository(place: Home, store: Store) -> None:
    disk = place.folder.parent / "disk"
    with small_disk(disk, 3 << 20):
        configure(place, store, repository=str(disk / "repository"), copies=False)
        place.run("backup", "key", "new")
        place.run("backup", "now")
        with place.connect(SERVER) as connection:
            connection.execute(
                "CREATE TABLE large AS SELECT string_agg(md5((i * n)::text), '') FROM generate_series(1, 500) i, "
                "generate_series(1, 400) n GROUP BY i"
            )
        full = place.run("backup", "now", code=1)
        assert "No space left on device" in full.stderr
        assert "make room" in full.stderr
        first, second = listed(place)
        assert (first.state, second.state) == (State.VERIFIED, State.FAILED)
        assert "No space left" in second.error
        assert not (disk / "repository" / second.folder).exists()
        place.run("backup", "verify", first.id)
