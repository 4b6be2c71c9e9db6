"""docs/disasters.md: each accident happens, its commands are run as they stand there, and what was lost is back."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.scenario.support import Home, wait_for

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "disasters.md"
_SECTION = re.compile(r"^## (.+?)\n(.*?)(?=^## |\Z)", re.M | re.S)
_BLOCK = re.compile(r"```(sh accident|sh|toml)\n(.*?)```", re.S)
State = dict[str, Any]

_SHOP = """
CREATE TABLE customers (id int PRIMARY KEY, name text NOT NULL);
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.noted := now(); RETURN NEW; END';
CREATE TABLE orders (
  id bigserial PRIMARY KEY, customer int REFERENCES customers, what text UNIQUE,
  amount int CHECK (amount >= 0), noted timestamptz);
CREATE INDEX by_amount ON orders (amount) WHERE amount > 10;
CREATE TRIGGER noted BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION noted();
CREATE TABLE notes (orders bigint CONSTRAINT of_order REFERENCES orders, note text);
COMMENT ON TABLE orders IS 'what people ordered';
INSERT INTO customers SELECT i, 'customer ' || i FROM generate_series(1, 20) i;
INSERT INTO orders (customer, what, amount) SELECT 1 + i % 20, 'thing ' || i, i FROM generate_series(1, 2000) i;
"""
_LOOK = """
SELECT 'rows', md5(string_agg(o::text, ';' ORDER BY id)) FROM orders o UNION ALL
SELECT 'indexes', string_agg(pg_get_indexdef(indexrelid), ';' ORDER BY indexrelid::regclass::text) FROM pg_index
  WHERE indrelid = 'orders'::regclass UNION ALL
SELECT 'constraints', string_agg(pg_get_constraintdef(oid), ';' ORDER BY conname) FROM pg_constraint
  WHERE conrelid = 'orders'::regclass UNION ALL
SELECT 'triggers', string_agg(pg_get_triggerdef(oid), ';') FROM pg_trigger
  WHERE tgrelid = 'orders'::regclass AND NOT tgisinternal UNION ALL
SELECT 'comment', obj_description('orders'::regclass) UNION ALL
-- WAL has a sequence's value some steps ahead, as after any crash: it may skip numbers, and repeats none.
SELECT 'sequence', (last_value >= (SELECT max(id) FROM orders))::text FROM orders_id_seq
"""


class Machine:
    """An environment as the document sets it up, and the state of its shop."""

    def __init__(self, folder: Path) -> None:
        self.base = folder
        self.home = self._folder("machine")
        self.read = DOCUMENT.read_text()
        self.sections = {title.split(".")[0]: text for title, text in _SECTION.findall(self.read)}

    def _folder(self, name: str) -> Home:
        made = Home(self.base / name)
        (made.folder / "atalaia.toml").unlink()
        return made

    def blocks(self, section: str) -> list[tuple[str, str]]:
        return [(kind, self._here(text)) for kind, text in _BLOCK.findall(self.sections[section])]

    def _here(self, text: str) -> str:
        places = {"/srv/backups": self.base / "backups", "/mnt/elsewhere": self.base / "elsewhere"}
        for name, path in places.items():
            text = text.replace(name, str(path))
        return text

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run commands as a user would, in the environment's folder."""
        (self.base / "bin").mkdir(exist_ok=True)
        program = self.base / "bin" / "atalaia"
        if not program.exists():
            program.write_text(f'#!/bin/sh\nexec {sys.executable} -m atalaia "$@"\n')
            program.chmod(0o755)
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("COV_", "PYTEST", "PG"))}
        variables |= {"PATH": f"{program.parent}:{os.environ['PATH']}", "HOME": str(self.base)}
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.home.folder,
            env=variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def happen(self, section: str) -> None:
        for kind, text in self.blocks(section):
            if kind == "sh accident":
                self.shell(text)

    def follow(self, section: str) -> str:
        """Run the commands of a section; what they printed."""
        return "".join(self.shell(text).stdout for kind, text in self.blocks(section) if kind == "sh")

    def state(self) -> State:
        with self.home.connect("postgres_a", dbname="shop") as connection:
            return dict(connection.execute(_LOOK.encode()).fetchall())

    def write(self, statement: str, database: str = "shop") -> None:
        with self.home.connect("postgres_a", dbname=database) as connection:
            connection.execute(statement.encode())

    def archived(self) -> None:
        """Until the archive has all that was written so far, and something after it."""
        with self.home.connect("postgres_a") as connection:
            row = connection.execute(
                "SELECT pg_current_wal_lsn()::text, timeline_id, pg_switch_wal()::text FROM pg_control_checkpoint()"
            ).fetchone()
            connection.execute("CREATE TABLE IF NOT EXISTS public.tick (at timestamptz)")
            connection.execute("INSERT INTO public.tick VALUES (now())")
        assert row

        def there() -> bool:
            seen = json.loads((self.home.state / "run" / "wal-postgres_a.json").read_text())
            # What was noted before the server went back to an earlier moment does not count.
            return seen["timeline"] == row[1] and _lsn(seen["archived_lsn"] or "0/0") > _lsn(row[0])

        wait_for(there, f"WAL up to {row[0]} is archived")


def _lsn(text: str) -> int:
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def _free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


@pytest.fixture
def machine(reachable: Path) -> Iterator[Machine]:
    made = Machine(reachable)
    machines = [made]
    try:
        yield made
    finally:
        for one in machines:
            one.home.stop_everything()


def _set_up(machine: Machine) -> None:
    title = "Before: what makes all of this possible"
    toml = "".join(text for kind, text in machine.blocks(title) if kind == "toml")
    ports = _free_ports(2)
    toml = toml.replace("version = 16\n", f"version = 16\nport = {ports[0]}\n")
    toml += f'\n[logs]\nport = {ports[1]}\n\n[collection]\ntargets = ["varlog/*log"]\n'
    (machine.home.folder / "atalaia.toml").write_text(toml)
    (machine.base / "backups").mkdir()
    (machine.base / "elsewhere").mkdir()
    first, *rest = next(text for kind, text in machine.blocks(title) if kind == "sh").splitlines(keepends=True)
    commands = [first, *rest]
    started = next(i for i, line in enumerate(commands) if line == "atalaia up\n")
    machine.shell("".join(commands[: started + 1]))
    machine.write("CREATE DATABASE shop", "postgres")
    machine.write(_SHOP)
    machine.shell("".join(commands[started + 1 :]))


@pytest.mark.timeout(900)
def test_each_disaster(machine: Machine) -> None:
    _set_up(machine)
    began = time.monotonic()
    for number, disaster in _DISASTERS.items():
        disaster(machine, number)
        print(f"{number}: {time.monotonic() - began:.1f} s")
        began = time.monotonic()
    assert {name for name in machine.sections if name.isdigit()} == set(_DISASTERS)


def _dropped_table(machine: Machine, number: str) -> None:
    machine.write("INSERT INTO orders (customer, what, amount) VALUES (1, 'after the backup', 7)")
    before = machine.state()
    machine.happen(number)
    machine.archived()
    said = machine.follow(number)
    assert machine.state() == before
    assert "of_order" in said  # the foreign key that CASCADE took from another table
    statement = re.search(r"ALTER TABLE ONLY public\.notes ADD CONSTRAINT of_order .*", said)
    assert statement
    machine.write(statement[0])


def _deleted_rows(machine: Machine, number: str) -> None:
    with machine.home.connect("postgres_a", dbname="shop") as connection:
        before = connection.execute("SELECT * FROM orders ORDER BY id").fetchall()
    machine.happen(number)
    machine.archived()
    machine.follow(number)
    with machine.home.connect("postgres_a", dbname="shop") as connection:
        rows = connection.execute("SELECT * FROM orders ORDER BY id").fetchall()
        # The trigger notes the time of the insert anew; all else is as it was.
        assert [row[:4] for row in rows[:-1]] == [row[:4] for row in before]
        assert rows[-1][2] == "after the accident"
        assert connection.execute("SELECT to_regnamespace('rescued')").fetchone() == (None,)


def _dropped_database(machine: Machine, number: str) -> None:
    before = machine.state()
    machine.happen(number)
    machine.archived()
    machine.follow(number)
    assert machine.state() == before


def _lost_directory(machine: Machine, number: str) -> None:
    machine.write("UPDATE orders SET amount = amount + 1")
    before = machine.state()
    machine.archived()
    machine.happen(number)
    machine.follow(number)
    assert machine.state() == before
    assert list((machine.home.state / "servers").glob("postgres_a.before-*"))


def _corrupt_page(machine: Machine, number: str) -> None:
    machine.write("INSERT INTO orders (customer, what, amount) VALUES (2, 'before the corrupt page', 7)")
    machine.archived()
    before = machine.state()
    with machine.home.connect("postgres_a", dbname="shop") as connection:
        connection.execute("CHECKPOINT")
        found = connection.execute(
            "SELECT pg_relation_filepath('orders'), split_part(trim('(' FROM ctid::text), ',', 1)::int FROM orders"
            " ORDER BY id DESC LIMIT 1"
        ).fetchone()
    assert found
    machine.shell("atalaia down")
    with (machine.home.state / "servers/postgres_a/data" / found[0]).open("r+b") as file:
        file.seek(8192 * found[1] + 100)
        file.write(os.urandom(64))
    machine.shell("atalaia up")
    with pytest.raises(psycopg.errors.DataCorrupted):
        machine.state()
    machine.follow(number)
    assert machine.state() == before


def _bad_migration(machine: Machine, number: str) -> None:
    before = machine.state()
    machine.happen(number)
    machine.archived()
    said = machine.follow(number)
    assert machine.state() == before
    # The way back that was told: the server after its migration again. It is the one that goes on.
    back = [line.strip() for line in said.splitlines() if re.match(r"  (atalaia (down|up|backup now)|mv )", line)]
    assert len(back) == 5
    machine.shell("\n".join(back))
    with machine.home.connect("postgres_a", dbname="shop") as connection:
        assert connection.execute("SELECT max(amount) FROM orders").fetchone() == (0,)


def _lost_machine(machine: Machine, number: str) -> None:
    machine.write("UPDATE orders SET amount = amount + 1")
    before = machine.state()
    machine.archived()
    machine.home.stop_everything()
    shutil.rmtree(machine.home.folder)
    machine.home = machine._folder("another machine")
    machine.follow(number)
    assert machine.state() == before


def _lost_key(machine: Machine, number: str) -> None:
    machine.happen(number)
    with pytest.raises(AssertionError, match="key"):
        machine.shell("atalaia backup restore --server postgres_a")
    machine.follow(number)


def _damaged_repository(machine: Machine, number: str) -> None:
    machine.happen(number)
    with pytest.raises(AssertionError, match=r"data-00000\.pack"):
        machine.shell("atalaia backup verify --fast")
    machine.follow(number)
    machine.shell("atalaia backup verify --fast")


def _lost_catalogue(machine: Machine, number: str) -> None:
    def usable() -> set[str]:
        shown = json.loads(machine.home.run("backup", "list", "--json").stdout)
        return {backup["id"] for backup in shown if backup["state"] in ("complete", "verified")}

    before = usable()
    assert before
    machine.happen(number)
    assert machine.follow(number)
    assert usable() == before


_DISASTERS: dict[str, Callable[[Machine, str], None]] = {
    "1": _dropped_table,
    "2": _deleted_rows,
    "3": _dropped_database,
    "4": _lost_directory,
    "5": _corrupt_page,
    "6": _bad_migration,
    "7": _lost_machine,
    "8": _lost_key,
    "9": _damaged_repository,
    "10": _lost_catalogue,
}
