"""Clients that use the servers, well and badly, and note what was acknowledged to them."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from pathlib import Path

import psycopg

from tests.scenario.support import Home


class Workload:
    """Runs inside `with`. `acknowledged[server]` has the numbers whose LOG message the server confirmed."""

    def __init__(self, home: Home, servers: tuple[str, ...] = ("postgres_a", "postgres_b")) -> None:
        self._home = home
        self._stop = threading.Event()
        self.acknowledged: dict[str, list[int]] = {server: [] for server in servers}
        self.written: dict[str, int] = {}
        self._threads = [threading.Thread(target=self._write_sql, args=(server,)) for server in servers]
        self._threads += [
            threading.Thread(target=self._append, args=(home.varlog / name,))
            for name in ("syslog", "applog", "mail.log")
        ]

    def __enter__(self) -> Workload:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _write_sql(self, server: str) -> None:
        number = 0
        while not self._stop.is_set():
            with contextlib.suppress(psycopg.Error), self._home.connect(server) as connection:
                connection.execute("CREATE TABLE IF NOT EXISTS numbers (n int)")
                while not self._stop.is_set():
                    number += 1
                    connection.execute("INSERT INTO numbers VALUES (%s)", (number,))
                    connection.execute(f"DO $$ BEGIN RAISE LOG 'number {server}-{number}-end'; END $$")
                    self.acknowledged[server].append(number)
                    if number % 10 == 0:
                        with contextlib.suppress(psycopg.errors.InvalidTextRepresentation):
                            connection.execute(f"SELECT 'no number {number}'::int")
                    self._stop.wait(0.005)
            self._stop.wait(0.05)

    def _append(self, path: Path) -> None:
        number = 0
        with path.open("a", buffering=1) as file:
            while not self._stop.is_set():
                number += 1
                file.write(f"{path.name} line {number}-end ção\n")
                self.written[path.name] = number
                self._stop.wait(0.003)


def http_request(port: int) -> None:
    """What `curl http://127.0.0.1:PORT/` does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    with contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/")
        connection.getresponse()
    connection.close()


def wrong_password(home: Home, server: str) -> None:
    with contextlib.suppress(psycopg.OperationalError):
        home.connect(server, password="wrong").close()


def long_statement(home: Home, server: str) -> None:
    with home.connect(server) as connection:
        connection.execute("SELECT pg_sleep(1.05)")


def deadlock(home: Home, server: str) -> None:
    """Two transactions that wait for each other; one of them is told so."""
    first, second = home.connect(server, autocommit=False), home.connect(server, autocommit=False)
    with first, second:
        first.execute("CREATE TABLE IF NOT EXISTS pair (id int PRIMARY KEY, v int)")
        first.execute("INSERT INTO pair VALUES (1, 0), (2, 0) ON CONFLICT DO NOTHING")
        first.commit()
        first.execute("UPDATE pair SET v = 1 WHERE id = 1")
        second.execute("UPDATE pair SET v = 2 WHERE id = 2")
        outcome: list[str] = []

        def cross(connection: psycopg.Connection[object], number: int) -> None:
            try:
                connection.execute("UPDATE pair SET v = 3 WHERE id = %s", (number,))
                outcome.append("done")
            except psycopg.errors.DeadlockDetected:
                outcome.append("deadlock")
            connection.rollback()

        threads = [threading.Thread(target=cross, args=pair) for pair in ((first, 2), (second, 1))]
        for thread in threads:
            thread.start()
            time.sleep(0.05)
        for thread in threads:
            thread.join(30)
        assert sorted(outcome) == ["deadlock", "done"]
