"""The replication protocol, as far as base backups need it: commands, results, COPY in both directions.

See "Streaming Replication Protocol" in PostgreSQL's documentation. PostgreSQL 15 and newer.
"""

from __future__ import annotations

import contextlib
import select
from collections.abc import Iterator
from dataclasses import dataclass

import psycopg
from psycopg import pq

from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect

_WAIT = 1000  # ms; the longest time that Ctrl-C is not noticed
_UPLOAD = 1 << 20

Row = tuple[str, ...]


class Refused(AtalaiaError):
    """The server answered a command with an error; `sqlstate` is its code."""

    def __init__(self, what: str, remedy: str, sqlstate: str) -> None:
        super().__init__(what, remedy)
        self.sqlstate = sqlstate


@dataclass(frozen=True, slots=True)
class Walsender:
    """A replication connection; `said` collects the server's warnings. Its methods raise AtalaiaError."""

    name: str
    connection: psycopg.Connection
    said: list[str]

    def rows(self, command: str) -> list[Row]:
        """The rows of the first result of a command."""
        self.send(command)
        found = self.result()
        while self.more():
            pass
        return found

    def send(self, command: str) -> None:
        """Send a command whose results are fetched one by one."""
        with self._broken():
            self._pgconn.send_query(command.encode())

    def result(self) -> list[Row]:
        """The next result's rows; empty for a command that gives none."""
        result = self._next()
        if result is None:
            raise self._error("it ended its answer too early", "")
        return [
            tuple((result.get_value(row, column) or b"").decode() for column in range(result.nfields))
            for row in range(result.ntuples)
        ]

    def more(self) -> bool:
        """Whether there was another result, which is passed over."""
        return self._next() is not None

    def messages(self) -> Iterator[memoryview]:
        """The messages of a COPY OUT, which must be the next result. Each is valid until the next is asked for."""
        self._expect(pq.ExecStatus.COPY_OUT)
        pgconn, poller = self._pgconn, self._poller()
        with self._broken():
            while True:
                length, data = pgconn.get_copy_data(1)
                if length > 0:
                    yield data
                elif length < 0:
                    return
                elif poller.poll(_WAIT):
                    pgconn.consume_input()

    def upload(self, command: str, data: bytes) -> None:
        """Run a command that takes `data` by COPY IN."""
        self.send(command)
        self._expect(pq.ExecStatus.COPY_IN)
        with self._broken():
            for offset in range(0, len(data), _UPLOAD):
                self._pgconn.put_copy_data(data[offset : offset + _UPLOAD])
            self._pgconn.put_copy_end()
        while self.more():
            pass

    @property
    def _pgconn(self) -> pq.abc.PGconn:
        return self.connection.pgconn

    def _poller(self) -> select.poll:
        poller = select.poll()
        poller.register(self._pgconn.socket, select.POLLIN)
        return poller

    def _expect(self, status: pq.ExecStatus) -> None:
        result = self._next()
        if result is None or result.status != status:
            raise self._error("it answered otherwise than was expected", "")

    def _next(self) -> pq.abc.PGresult | None:
        """The next result; None at the end of the command."""
        pgconn, poller = self._pgconn, self._poller()
        with self._broken():
            while pgconn.is_busy():
                if poller.poll(_WAIT):
                    pgconn.consume_input()
            result = pgconn.get_result()
        if result is not None and result.status in (pq.ExecStatus.FATAL_ERROR, pq.ExecStatus.BAD_RESPONSE):
            message = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
            code = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
            raise self._error(message or result.get_error_message(), code)
        return result

    @contextlib.contextmanager
    def _broken(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            raise self._error(str(error).strip().splitlines()[-1], "") from error

    def _error(self, said: str, code: str) -> Refused:
        words = "; ".join([said, *self.said])
        return Refused(f"the base backup of {self.name} failed: {words}", _remedy(said), code)


def _remedy(said: str) -> str:
    for sign, remedy in (
        ("max_wal_senders", "raise `max_wal_senders` in the settings of the server and restart it"),
        ("pg_hba.conf", "let replication connections in from here: `host replication all …` in pg_hba.conf"),
        ("WAL level", "set `wal_level = replica` in the settings of the server and restart it"),
        ("checksum", "the server's files are damaged: restore the last verified backup; see the server's log"),
        ("has already been removed", "raise `wal_keep_size`, or `max_slot_wal_keep_size`, then try again"),
        ("summar", "make a full backup: `atalaia backup now --kind physical`"),
    ):
        if sign in said:
            return remedy
    return "no backup was made; try again, and see the server's log"


@contextlib.contextmanager
def walsender(cluster: Cluster) -> Iterator[Walsender]:
    """Open a replication connection. Raises AtalaiaError."""
    said: list[str] = []
    try:
        connection = connect(cluster, autocommit=True, replication=True)
    except psycopg.Error as error:
        words = str(error).strip().splitlines()[-1]
        raise AtalaiaError(
            f"{cluster.name} takes no replication connection on {cluster.host} port {cluster.port}: {words}",
            _remedy(words),
        ) from error

    def note(diagnostic: psycopg.Error | psycopg.errors.Diagnostic) -> None:
        if getattr(diagnostic, "severity_nonlocalized", "") == "WARNING":
            said.append(str(getattr(diagnostic, "message_primary", "")))

    connection.add_notice_handler(note)
    try:
        yield Walsender(cluster.name, connection, said)
    finally:
        # Not the polite way: in the middle of a COPY it would wait for all that is still to come.
        connection.pgconn.finish()


@contextlib.contextmanager
def keeping_wal(cluster: Cluster, name: str) -> Iterator[str]:
    """Keep the WAL from now on with a temporary slot; why it could not, empty when it does."""
    with contextlib.ExitStack() as stack:
        problem = ""
        try:
            sender = stack.enter_context(walsender(cluster))
            quoted = name.replace('"', '""')
            sender.rows(f'CREATE_REPLICATION_SLOT "{quoted}" TEMPORARY PHYSICAL (RESERVE_WAL)')
        except AtalaiaError as error:
            # The backup itself notices when WAL that it needs has gone.
            problem = f"no temporary slot keeps the WAL during the backup: {error.what}"
        yield problem
