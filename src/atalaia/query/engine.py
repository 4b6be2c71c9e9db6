"""DuckDB for queries: one database in memory, a cursor a query, limits, and the functions that SQL lacks."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from duckdb.func import FunctionNullHandling, PythonUDFType

from atalaia.environment.errors import AtalaiaError
from atalaia.logql import extract, unwrap, values
from atalaia.logql.addresses import holds_address
from atalaia.logql.macros import MACROS
from atalaia.query.ticket import QueryNeedsMemory, Ticket
from atalaia.query.watch import Watch

log = logging.getLogger("atalaia.api")
_MAP = pa.map_(pa.utf8(), pa.utf8())


QUICK = 2
"""Places for questions that read little."""
RULES = 1
"""Places for rules, which wait for nobody."""
_LEAST = 4 << 20  # bytes a place


class QueryFailed(AtalaiaError):
    """DuckDB refused a query for any other reason; the server goes on."""


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """`memory` in bytes for all queries together, `seconds` for one.

    `running` queries at once (0: two a core, from 4 to 8); of a tenant, `waiting` ones wait, for `patience` seconds at
    the most. `answer`: bytes of one answer.
    """

    memory: int = 1 << 30
    seconds: float = 60.0
    running: int = 0
    waiting: int = 10_000
    patience: float = 600.0
    answer: int = 128 << 20

    @property
    def places(self) -> int:
        """Queries that run at once."""
        return self.running or min(max(2 * (os.cpu_count() or 1), 4), 8)

    @property
    def most(self) -> int:
        """Bytes that one query may take."""
        return self.memory // 2

    @property
    def share(self) -> int:
        """Bytes that a query may take beside others."""
        return max(self.memory // 2 // (self.places + QUICK + RULES), _LEAST)

    @property
    def for_rules(self) -> int:
        """The place where rules run."""
        return self.places + QUICK + RULES


StreamLabels = Callable[[np.ndarray, str], pa.Array]
"""A label (utf8, null for none) of streams by number."""
StreamTenants = Callable[[np.ndarray], pa.Array]
"""The tenants (utf8) of streams by number."""


class Engine:
    """Runs SQL over relations of the store.

    `stream_labels` and `stream_tenants` are the store's; plans ask them when streams are many.

    DuckDB bounds the memory of a database, not that of a query. So each place where a query may run has a database of
    its own (in memory, empty): place 0 with half of all memory, the others with equal shares of the other half.
    """

    def __init__(self, limits: QueryLimits | None = None) -> None:
        self.limits = limits or QueryLimits()
        self._guard = threading.Lock()
        self._databases: dict[int, duckdb.DuckDBPyConnection] = {}
        self._watch = Watch()
        self.stream_labels: StreamLabels = lambda numbers, _: pa.nulls(len(numbers), pa.utf8())
        self.stream_tenants: StreamTenants = lambda numbers: pa.nulls(len(numbers), pa.utf8())

    def ticket(self) -> Ticket:
        """Leave for a query that begins now."""
        return Ticket(self.limits.seconds)

    def _database(self, place: int) -> duckdb.DuckDBPyConnection:
        with self._guard:
            if place not in self._databases:
                self._databases[place] = self._made(self._memory(place))
            return self._databases[place]

    def _memory(self, place: int) -> int:
        return self.limits.share if place else self.limits.most

    def _made(self, memory: int) -> duckdb.DuckDBPyConnection:
        database = duckdb.connect(
            config={
                "threads": max(1, os.cpu_count() or 1),
                "memory_limit": f"{memory // 1000}KB",
                # A query beyond its memory fails; it does not go on in files of the working directory.
                "temp_directory": "",
                # Nothing is downloaded at run time.
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "preserve_insertion_order": "false",
            }
        )
        # Segments never change: their footers need reading once.
        database.execute("SET GLOBAL parquet_metadata_cache = true")
        _register(
            database,
            lambda numbers, name: self.stream_labels(numbers, name),
            lambda numbers: self.stream_tenants(numbers),
        )
        return database

    @contextmanager
    def cursor(self, ticket: Ticket | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection, interrupted when the query is over; without a ticket, after the time limit.

        Raises QueryTooExpensive when the query exceeded a limit, QueryCancelled when nobody waits for it.
        """
        ticket = ticket or self.ticket()
        connection = self._database(ticket.place).cursor()
        try:
            with self._watch.watching(ticket, connection.interrupt):
                yield connection
        except (duckdb.Error, OSError) as error:  # OSError: pyarrow's word for an error in the midst of a result
            raise self._explained(error, ticket) from error
        finally:
            connection.close()

    def _explained(self, error: Exception, ticket: Ticket) -> AtalaiaError:
        reason = str(error).splitlines()[0]
        if ticket.over and (isinstance(error, duckdb.InterruptException) or "INTERRUPT" in reason):
            return ticket.why()
        if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in reason:
            return QueryNeedsMemory(
                f"the query needs more than {self._memory(ticket.place) >> 20} MiB of memory",
                "ask for a shorter time or fewer labels; a query may take half of [logs.limits] query_memory",
            )
        log.error("event=query_failed reason=%r", str(error))
        return QueryFailed(f"the query failed: {reason}", "please report this")

    def close(self) -> None:
        """Release the databases."""
        self._watch.close()
        for database in self._databases.values():
            database.close()


def _register(
    connection: duckdb.DuckDBPyConnection, stream_labels: StreamLabels, stream_tenants: StreamTenants
) -> None:
    """The functions that plans call; each works on a column of the rows that are left."""
    for macro in MACROS:
        connection.execute(macro)
    text, boolean, integer = duckdb.type("VARCHAR"), duckdb.type("BOOLEAN"), duckdb.type("INTEGER")
    labels = duckdb.type("MAP(VARCHAR, VARCHAR)")

    for name, one, arguments, result in (
        ("line_json", _labels(extract.json_labels), [text], labels),
        ("line_logfmt", _labels(extract.logfmt_labels), [text, boolean, boolean], labels),
        ("line_json_at", _values(extract.json_value, pa.utf8()), [text, text], text),
        ("holds_address", _values(holds_address, pa.bool_()), [text, text], boolean),
        ("read_label", _values(unwrap.read, pa.float64()), [text, text], duckdb.type("DOUBLE")),
        ("compare_label", _compared, [text] * 4, integer),
        ("stream_label", _of_streams(stream_labels), [integer, text], text),
        ("stream_tenant", _tenants(stream_tenants), [integer], text),
    ):
        connection.create_function(
            name,
            _ARITY[len(arguments)](one),
            list[Any](arguments),
            result,
            type=PythonUDFType.ARROW,
            null_handling=FunctionNullHandling.SPECIAL,
        )


Function = Callable[..., pa.Array]
# DuckDB reads a function's parameters from its signature.
_ARITY: dict[int, Callable[[Function], Function]] = {
    1: lambda f: lambda a: f(a),
    2: lambda f: lambda a, b: f(a, b),
    3: lambda f: lambda a, b, c: f(a, b, c),
    4: lambda f: lambda a, b, c, d: f(a, b, c, d),
}


def _labels(one: Callable[..., dict[str, str]]) -> Function:
    """A function of a line as a function of columns that gives a map a row; null for a null line."""

    def function(*columns: pa.Array) -> pa.Array:
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        return pa.array([None if row[0] is None else list(one(*row).items()) for row in rows], _MAP)

    return function


def _of_streams(labels: StreamLabels) -> Function:
    """The function of a column of stream numbers and one label's name, which DuckDB repeats for each row."""

    def function(numbers: pa.Array, names: pa.Array) -> pa.Array:
        if not len(numbers):
            return pa.array([], pa.utf8())
        return labels(_whole(numbers).to_numpy(zero_copy_only=False), names[0].as_py())

    return function


def _tenants(tenants: StreamTenants) -> Function:
    """The function of a column of stream numbers."""
    return lambda numbers: tenants(_whole(numbers).to_numpy(zero_copy_only=False))


def _values(one: Callable[..., object], kind: pa.DataType) -> Function:
    """The same for a function that gives one value."""

    def function(*columns: pa.Array) -> pa.Array:
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        return pa.array([None if row[0] is None else one(*row) for row in rows], kind)

    return function


def _compared(labels: pa.Array, kind: pa.Array, op: pa.Array, wanted: pa.Array) -> pa.Array:
    """values.compare of a column with one value, which DuckDB repeats for each row; a null label fails."""
    if not len(labels):
        return pa.array([], pa.int32())
    distinct = _whole(labels).dictionary_encode()
    how = kind[0].as_py(), op[0].as_py(), float(wanted[0].as_py())
    codes = [values.compare(text, *how) for text in distinct.dictionary.to_pylist()]
    return pa.array(codes, pa.int32()).take(distinct.indices).fill_null(values.FAILS)


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
