"""The rows of a dump -> a server, by COPY on several connections at once, the largest tables first."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import psycopg

from atalaia.backup.logical.archive import Archive
from atalaia.backup.logical.sessions import execute, judged, session
from atalaia.backup.logical.streams import END
from atalaia.backup.logical.toc import Toc, moved
from atalaia.backup.restoring.toc import Entry, quoted
from atalaia.postgres.cluster import Cluster

_STDIN = " FROM stdin;"
_PART = 1 << 20  # bytes of a large object sent at once


class _Stopped(Exception):
    pass


class Copying:
    """Loads the data of some entries of one database; `into` is the database that gets them."""

    def __init__(
        self,
        archive: Archive,
        database: str,
        contents: Toc,
        cluster: Cluster,
        into: str,
        advance: Callable[[int], None],
    ) -> None:
        self._archive, self._database, self._contents = archive, database, contents
        self._cluster, self._into, self._advance = cluster, into, advance
        self._stop = threading.Event()
        self._mark: Callable[[int], None] | None = None
        self._created = {(e.schema, e.name) for e in contents.entries if e.kind == "TABLE"}

    @property
    def repeatable(self) -> bool:
        """Whether loading again replaces what is there already, whichever tables that are."""
        return all(self._own(entry) for entry in self._contents.data)

    def load(
        self,
        entries: Sequence[Entry],
        jobs: int,
        *,
        done: frozenset[int] = frozenset(),
        mark: Callable[[int], None] | None = None,
    ) -> None:
        """Load rows, sequences' values and large objects, but not the files whose numbers are `done`; `mark` others.

        What is marked outlives a kill of the server.

        Raises Refused when the server refuses them, Untested, Damaged, PlaceError.
        """
        self._mark = mark
        all_tables = [entry for entry in entries if entry.kind == "TABLE DATA" and entry.file]
        tables = [entry for entry in all_tables if file_number(entry) not in done]
        self._advance(sum(self._archive.size(self._database, e.file) for e in all_tables if file_number(e) in done))
        work: deque[Callable[[psycopg.Connection], None]] = deque()
        if self._archive.objects(self._database):
            work.append(self._objects)
        for entry in sorted(tables, key=lambda entry: -self._archive.size(self._database, entry.file)):
            work.append(lambda connection, entry=entry: self._table(connection, entry))  # type: ignore[misc] # mypy has no type for a default of a lambda's argument
        sets = [entry.definition for entry in entries if entry.kind == "SEQUENCE SET"]
        if sets:
            work.append(lambda connection: execute(connection, "\n".join(sets)))
        if not work:
            return
        with ThreadPoolExecutor(min(jobs, len(work)), thread_name_prefix="copy") as pool:
            workers = [pool.submit(self._worker, work) for _ in range(min(jobs, len(work)))]
            try:
                wait(workers, return_when=FIRST_EXCEPTION)
            finally:
                self._stop.set() if any(one.done() and one.exception() for one in workers) else None
        for one in workers:
            error = one.exception()
            if error and not isinstance(error, _Stopped):
                raise error

    def _worker(self, work: deque[Callable[[psycopg.Connection], None]]) -> None:
        what = self._into
        try:
            with session(self._cluster, self._into, self._contents) as connection:
                while not self._stop.is_set():
                    try:
                        one = work.popleft()
                    except IndexError:
                        return
                    one(connection)
        except psycopg.Error as error:
            self._stop.set()
            raise judged(error, f"the data of {what} could not be loaded") from error
        except BaseException:
            self._stop.set()
            raise

    def _table(self, connection: psycopg.Connection, entry: Entry) -> None:
        # In a table that was made or emptied in this transaction rows are appended in their order, frozen, and with
        # wal_level = minimal without WAL. What an extension or partitions' root holds may have rows already.
        own = self._own(entry)
        statement = entry.copy.rstrip()
        assert statement.endswith(_STDIN)
        statement = statement.removesuffix(_STDIN) + " FROM STDIN" + (" WITH (FREEZE)" if own else "")
        with connection.transaction():
            if self._mark:
                connection.execute("SET LOCAL synchronous_commit = on")
            if own:
                execute(connection, f"TRUNCATE TABLE ONLY {quoted(entry.schema)}.{quoted(entry.name)}")
            with connection.cursor().copy(statement.encode(errors="surrogateescape")) as copy:
                for block in self._rows(entry):
                    copy.write(block)
        if self._mark:
            self._mark(file_number(entry))

    def _own(self, entry: Entry) -> bool:
        """Whether its table has no rows but those."""
        return (entry.schema, entry.name) in self._created and not moved(entry)

    def _rows(self, entry: Entry) -> Iterator[bytes]:
        left = self._archive.size(self._database, entry.file) - len(END)
        for block in self._archive.stream(self._database, entry.file):
            if self._stop.is_set():
                raise _Stopped
            yield block[:left] if len(block) > left else block
            self._advance(len(block))
            left = max(0, left - len(block))

    def _objects(self, connection: psycopg.Connection) -> None:
        """Write large objects, which the schema's restore has made, part by part."""
        with connection.transaction(), connection.cursor() as cursor:
            sizes = self._archive.objects(self._database)
            for (oid, _, _), (_, blocks) in zip(sizes, self._archive.split(self._database), strict=True):
                at = 0
                for block in blocks:
                    if self._stop.is_set():
                        raise _Stopped
                    for start in range(0, len(block), _PART):
                        part = block[start : start + _PART]
                        cursor.execute("SELECT pg_catalog.lo_put(%s::oid, %s::bigint, %b)", (oid, at, part))
                        at += len(part)
                    self._advance(len(block))


def file_number(entry: Entry) -> int:
    """The number of the file that has a table's rows."""
    return int(entry.file.partition(".")[0])
