from __future__ import annotations

import itertools
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from backup_sample import dump_of

from atalaia.backup import catalogue, rows, service
from atalaia.backup.model import Backup, State
from atalaia.backup.site import Site
from atalaia.backup.vault.reader import open_backup
from atalaia.backup.vault.writer import Writer
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect


def test_a_flipped_byte_fails_verification(server: Cluster, site: Site) -> None:
    backup = service.backup_now(server, site)
    path = dump_of(site, backup)
    whole = path.read_bytes()
    middle = len(whole) // 2
    path.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    (judged,) = service.verify(site, [backup.id])
    assert judged.state is State.FAILED
    assert "has changed since it was written" in judged.error
    assert service.list_backups(site)[0].state is State.FAILED
    with pytest.raises(InputError, match="has changed since"):
        service.restore(site, backup.id)
    path.write_bytes(whole)
    (judged,) = service.verify(site, [backup.id])
    assert judged.state is State.VERIFIED
    assert [v.passed for v in judged.verifications] == [True, False, True]
    path.unlink()
    assert "is missing" in service.verify(site, [backup.id])[0].error


def test_a_statement_that_fails_and_a_row_that_lacks_fail_verification(server: Cluster, site: Site) -> None:
    with connect(server) as connection:
        connection.execute("CREATE TABLE t (a text)")
        connection.execute("INSERT INTO t VALUES ('first'), ('second')")
    backup = service.backup_now(server, site, verify=False)
    path = dump_of(site, backup)
    original = open_backup(site.repository, backup.folder, None).read("dump.sql")
    ending = b"--\n-- PostgreSQL database cluster dump complete"

    def judged(text: bytes) -> Backup:
        """Verify a changed text, whose checksum is in the catalogue as if it had been written so."""
        (path.parent / "manifest.json").unlink()
        changed = {"compression": "zstd", "level": 1, "keyring": None, "pack_name": lambda _: path.name}
        with Writer(site.repository, backup.folder, **changed) as writer:
            writer.member("dump.sql").write(text)
            catalogue.put(site.catalogue, rows.sealed(backup, writer))
        return service.verify(site, [backup.id])[0]

    failing = judged(original.replace(ending, b"SELECT 1/0;\n" + ending))
    assert failing.state is State.FAILED
    assert "psql could not restore it" in failing.error
    assert "division by zero" in failing.error
    assert "not what the catalogue recorded" in judged(original.replace(b"second\n", b"")).error
    # All statements succeed, and a row is missing all the same.
    swallowed = judged(original.replace(ending, b"DELETE FROM public.t WHERE a = 'first';\n" + ending))
    assert "table public.t has 1 rows in place of 2" in swallowed.error
    assert judged(original).state is State.VERIFIED
    assert list(site.temporary.iterdir()) == []


def test_a_backup_while_clients_write_verifies(server: Cluster, site: Site) -> None:
    with connect(server, autocommit=True) as connection:
        connection.execute("CREATE TABLE ledger (id bigint GENERATED ALWAYS AS IDENTITY, amount int, note text)")
        connection.execute(
            "INSERT INTO ledger (amount, note) SELECT i, repeat('x', i % 300) FROM generate_series(1, 30000) i"
        )
        connection.execute("CREATE DATABASE other")
    with connect(server, "other") as connection:
        connection.execute("CREATE TABLE events (n int)")
    over = threading.Event()
    written: list[int] = []

    def write(number: int) -> None:
        count = 0
        with connect(server, autocommit=True) as one, connect(server, "other", autocommit=True) as other:
            while not over.is_set():
                one.execute("INSERT INTO ledger (amount, note) VALUES (1, 'a'), (2, repeat('b', 5000))")
                one.execute("DELETE FROM ledger WHERE id = %s", (count * 3 + number,))
                one.execute("UPDATE ledger SET amount = amount + 1 WHERE id = %s", (count * 5 + number,))
                other.execute("INSERT INTO events VALUES (%s)", (count,))
                count += 1
        written.append(count)

    def define() -> None:
        # pg_dump fails when a table goes in the moment between listing and locking it; that is tried again.
        with connect(server, "other", autocommit=True) as other:
            for count in itertools.count():
                other.execute(f"CREATE TABLE made_{count} (a int)".encode())
                if over.wait(0.05):
                    return
                other.execute(f"DROP TABLE made_{count}".encode())

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    threads.append(threading.Thread(target=define))
    for thread in threads:
        thread.start()
    try:
        backups = [service.backup_now(server, site) for _ in range(3)]
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert [backup.state for backup in backups] == [State.VERIFIED] * 3
    rows = [backup.contents["databases"]["postgres"]["tables"]["public.ledger"][0] for backup in backups]
    assert rows == sorted(rows)
    assert rows[0] < rows[2]
    assert len(written) == 3
    assert min(written) > 10


def test_a_wrong_client_version_is_refused(server: Cluster, site: Site, new_server: Callable[..., Cluster]) -> None:
    other = new_server("other", major=18, run=False)
    with pytest.raises(AtalaiaError, match=r"is PostgreSQL 16\.\d+, but pg_dumpall is 18"):
        service.backup_now(replace(server, installation=other.installation), site)
    assert service.list_backups(site) == []


def test_a_newer_catalogue_is_refused(server: Cluster, site: Site) -> None:
    service.backup_now(server, site, verify=False)
    connection = sqlite3.connect(site.catalogue)
    connection.execute("PRAGMA user_version = 3")
    connection.close()
    with pytest.raises(AtalaiaError, match=r"newer Atalaia \(schema 3"):
        service.list_backups(site)


def test_two_backups_within_a_second_have_two_names(server: Cluster, site: Site) -> None:
    names = [service.backup_now(server, site, verify=False).id for _ in range(4)]
    assert len(set(names)) == 4
    assert [backup.id for backup in service.list_backups(site)] == names


def test_an_untestable_backup_stays_complete(server: Cluster, site: Site) -> None:
    backup = service.backup_now(server, site, verify=False)
    broken = replace(site, binaries={16: Path("/nonexistent")})
    with pytest.raises(AtalaiaError, match="lacks postgres"):
        service.verify(broken, [backup.id])
    assert service.list_backups(site)[0].state is State.COMPLETE
