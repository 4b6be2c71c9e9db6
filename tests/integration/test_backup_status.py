"""What `backup status` and `doctor` find in repositories, and what the service's own pages say."""

from __future__ import annotations

import os
import socket
import urllib.error
import urllib.request
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from atalaia.backup import catalogue, rows, site
from atalaia.backup.keeping.gather import check, gather
from atalaia.backup.keeping.listening import Listening, ports_of
from atalaia.backup.keeping.promise import judge
from atalaia.backup.model import Backup, State
from atalaia.backup.vault import keys
from atalaia.backup.vault.keys import Keyring
from atalaia.backup.vault.writer import Writer
from atalaia.environment.load import Environment, load
from atalaia.runtime.process import Process
from atalaia.runtime.zone import local_zone


@pytest.fixture
def environment(folder: Path) -> Environment:
    """One with two encrypted backups in two repositories."""
    file = folder / "atalaia.toml"
    file.write_text('[servers.postgres_a]\nversion = 16\n[backups]\nencryption = true\ncopies = ["copy"]\n')
    made = load(file)
    made.state.create()
    keys.save(made.backup_keys, Keyring((keys.new_key(),)))
    place = site.of(made)
    process = Process.of(os.getpid())
    assert process
    for days in (2, 1):
        started = datetime.now(UTC) - timedelta(days=days)
        backup = Backup(
            id=f"postgres_a_{started:%Y-%m-%dT%H%M%SZ}",
            server="postgres_a",
            kind="plain",
            state=State.COMPLETE,
            started=started,
            finished=started,
            server_version="16.14",
            client_version="16.14",
        )
        catalogue.begin(place.catalogue, backup, process)
        for each in (place.repository, *place.copies):
            with Writer(each, backup.folder, compression="zstd", level=1, keyring=place.sealing()) as writer:
                writer.member("dump.sql").write(b"-- a dump\n")
                backup = rows.sealed(backup, writer)
        catalogue.put(place.catalogue, replace(backup, state=State.VERIFIED))
    return made


def red(environment: Environment) -> list[tuple[str, str]]:
    """Reasons with their texts."""
    facts = gather(environment)
    facts = gather(environment, check(environment, facts.backups))
    return [(reason.kind, f"{reason.text}; {reason.remedy}") for reason in judge(facts)]


def kinds(environment: Environment) -> set[str]:
    return {kind for kind, _ in red(environment)}


def test_keys_that_do_not_open_the_oldest_backup(environment: Environment) -> None:
    assert [kind for kind, _ in red(environment)] == ["copy"], "the copy was never noted"
    ring = keys.load(environment.backup_keys)
    keys.save(environment.backup_keys, Keyring((keys.new_key(),)))
    assert kinds(environment) == {"copy", "key"}
    keys.save(environment.backup_keys, Keyring((*ring.keys, keys.new_key())))
    assert kinds(environment) == {"copy"}
    environment.backup_keys.unlink()
    told = [text for kind, text in red(environment) if kind == "key"]
    assert len(told) == 2
    assert all("there is no key file" in text and "key import" in text for text in told)


def test_a_repository_that_lost_something_or_is_away(environment: Environment, folder: Path) -> None:
    server = folder / ".atalaia" / "backups" / "postgres_a"
    oldest = sorted(server.iterdir())[0]
    manifest = (oldest / "manifest.json").read_bytes()
    (oldest / "manifest.json").write_bytes(manifest[:-20])
    assert kinds(environment) == {"copy", "damaged"}
    (oldest / "manifest.json").unlink()
    assert kinds(environment) == {"copy", "missing"}
    server.parent.rename(folder / "elsewhere")
    assert kinds(environment) == {"copy", "repository"}


def test_a_catalogue_that_cannot_be_read_is_red(environment: Environment) -> None:
    environment.state.backup_catalogue.write_bytes(b"no database" * 1000)
    ((kind, text),) = red(environment)
    assert kind == "catalogue"
    assert "rebuild" in text


def test_metrics_are_served_where_there_is_a_port(environment: Environment) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            Listening([port], lambda: b"")
        listening = Listening([port, *ports_of(None, 0)], lambda: b"atalaia_backup_up 1.0\n")
    try:
        address = f"http://127.0.0.1:{listening.port}"
        with urllib.request.urlopen(f"{address}/metrics", timeout=10) as answer:
            assert answer.read() == b"atalaia_backup_up 1.0\n"
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        with pytest.raises(urllib.error.HTTPError) as missing:
            urllib.request.urlopen(f"{address}/else", timeout=10)
        missing.value.close()
        assert missing.value.code == 404
    finally:
        listening.stop()


def test_the_machines_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    moment = datetime(2026, 7, 1, tzinfo=UTC)
    for name in ("America/Sao_Paulo", ":Europe/Berlin", "/usr/share/zoneinfo/Asia/Kolkata"):
        monkeypatch.setenv("TZ", name)
        place = ZoneInfo(name.removeprefix(":").removeprefix("/usr/share/zoneinfo/"))
        assert moment.astimezone(local_zone()).utcoffset() == moment.astimezone(place).utcoffset()
    monkeypatch.setenv("TZ", "nowhere/at_all")
    assert local_zone() is UTC
