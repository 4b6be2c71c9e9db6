"""The server that is backed up: pgbench's tables at scale 75 and 200 tables of 15,000 rows, 2.1 GB; and empty ones."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from atalaia.backup.vault import keys
from atalaia.environment.errors import AtalaiaError
from atalaia.environment.load import Environment, load
from atalaia.postgres import control, init
from atalaia.postgres.binaries import find
from atalaia.postgres.cluster import Cluster, Setting
from atalaia.postgres.connect import connect, environment_variables
from atalaia.postgres.temporary import FAST
from atalaia.supervisor.layout import decide
from bench import usage

MAJOR = 15  # Debian's, for which there are pgBackRest and Barman
SCALE, TABLES, ROWS = 75, 200, 15_000
_WHOLE = "whole"
_LOADING: dict[str, Setting] = {**FAST, "max_wal_size": "8GB"}
# Texts that repeat, numbers that grow, and some that nobody can guess, as tables of orders have them.
_TABLE = """
CREATE TABLE orders_{n} AS SELECT i AS id, timestamptz '2026-01-01 00:00:00+00' + i * interval '7 seconds' AS at,
  ('x' || substr(md5('c{n}' || i), 1, 7))::bit(28)::int % 50000 AS customer,
  (('x' || substr(md5('p{n}' || i), 1, 7))::bit(28)::int % 1000000) / 100.0 AS price,
  (ARRAY['new', 'paid', 'packed', 'sent', 'returned'])[1 + i % 5] AS state, md5('k{n}' || i) AS token,
  'Order of ' || (ARRAY['books', 'bicycles', 'bread', 'bolts'])[1 + i % 4] || ' number ' || i ||
  ', to be delivered between eight and twelve o''clock; if nobody is there, please ring at the neighbour''s door, '
  || 'and leave a note about it. Paid by ' || (ARRAY['card', 'transfer', 'cash'])[1 + i % 3] || '.' AS note
  FROM generate_series(1, {rows}) i"""


def environment(folder: Path) -> Environment:
    """The environment of the bench in `folder`: made, initialised and filled once, then taken again."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    (folder / "atalaia.toml").write_text(
        f'[servers.bench]\nversion = {MAJOR}\nport = {_free_port()}\n[backups]\nkind = "logical"\nencryption = true\n'
        'key_file = "backup.keys"\n[collection]\ntargets = []\n'
    )
    found = load(folder / "atalaia.toml")
    if not found.backup_keys.exists():
        keys.save(found.backup_keys, keys.Keyring((keys.new_key(),)))
    cluster = decide(found).clusters["bench"]
    whole = folder / _WHOLE
    if not whole.exists():
        if cluster.directory.exists():
            shutil.rmtree(cluster.directory)
        init.initialise(cluster, durable=False)
        with started(replace(cluster, settings=_LOADING)):
            _fill(cluster)
        whole.touch()
    return found


def _fill(cluster: Cluster) -> None:
    program = cluster.installation.bindir / "pgbench"
    with connect(cluster, autocommit=True) as connection:
        connection.execute("CREATE DATABASE bench")
    if program.is_file():
        usage.run([program, "-i", "-q", "-s", str(SCALE), "bench"], environment_variables(cluster))
    else:
        raise AtalaiaError(f"{program} is missing", f"install PostgreSQL {MAJOR} with its contrib programs")
    with connect(cluster, "bench") as connection:
        for number in range(TABLES):
            connection.execute(_TABLE.format(n=number, rows=ROWS).encode())
            connection.execute(f"ALTER TABLE orders_{number} ADD PRIMARY KEY (id)".encode())
            connection.execute(f"CREATE INDEX ON orders_{number} (customer)".encode())
    with connect(cluster, "bench", autocommit=True) as connection:
        connection.execute("VACUUM FREEZE ANALYZE")
        connection.execute("CHECKPOINT")


@contextlib.contextmanager
def started(cluster: Cluster) -> Iterator[Cluster]:
    """A cluster running; stopped at the end. One that a killed bench has left running is stopped first."""
    if left := control.postmaster(cluster):
        control.stop(left)
    process = control.start(cluster)
    try:
        control.wait_ready(cluster, process)
        yield cluster
    finally:
        control.stop(process)


def size(cluster: Cluster) -> int:
    """Bytes of all databases."""
    with connect(cluster) as connection:
        row = connection.execute("SELECT sum(pg_database_size(oid))::bigint FROM pg_database").fetchone()
    assert row
    return int(row[0])


class Empty:
    """New servers to restore into: initialised once, copied for each."""

    def __init__(self, folder: Path, like: Cluster) -> None:
        folder.mkdir()
        folder.chmod(0o711)
        self._folder = folder
        self._cluster = replace(
            like, name="empty", directory=folder / "empty", port=_free_port(), settings={}, installation=find(MAJOR)
        )
        init.initialise(self._cluster, durable=False)

    @contextlib.contextmanager
    def server(self, *, fast: bool) -> Iterator[Cluster]:
        """A running one with usual settings, or with those of our own restores; gone at the end."""
        directory = self._folder / "server"
        subprocess.run(["cp", "-a", self._cluster.directory, directory], check=True)
        try:
            with started(replace(self._cluster, directory=directory, settings=FAST if fast else {})) as cluster:
                yield cluster
        finally:
            shutil.rmtree(directory)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
