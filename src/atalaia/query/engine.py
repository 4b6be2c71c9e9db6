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
from atalaia.query.ticket import QueryTooExpensive, Ticket

log = logging.getLogger("atalaia.api")
_MAP = pa.map_(pa.utf8(), pa.utf8())


class QueryFailed(AtalaiaError):
    """DuckDB refused a query for any other reason; the server goes on."""


@dataclass(frozen=True, slots=True)
class QueryLimits:
    """`memory` in bytes for all queries together, `seconds` for one."""

    memory: int = 512 << 20
    seconds: float = 60.0


StreamLabels = Callable[[np.ndarray, str], pa.Array]
"""A label (utf8, null for none) of streams by number."""


class Engine:
    """Runs SQL over relations of the store. `stream_labels` is the store's; plans ask it when streams are many."""

    def __init__(self, limits: QueryLimits | None = None) -> None:
        self.limits = limits or QueryLimits()
        self._database = duckdb.connect(
            config={
                "threads": max(1, os.cpu_count() or 1),
                "memory_limit": f"{self.limits.memory // 1_000_000}MB",
                # A query beyond its memory fails; it does not go on in files of the working directory.
                "temp_directory": "",
                # Nothing is downloaded at run time.
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "preserve_insertion_order": "false",
            }
        )
        # Segments never change: their footers need reading once.
        self._database.execute("SET GLOBAL parquet_metadata_cache = true")
        self.stream_labels: StreamLabels = lambda numbers, _: pa.nulls(len(numbers), pa.utf8())
        _register(self._database, lambda numbers, name: self.stream_labels(numbers, name))

    def ticket(self) -> Ticket:
        """Leave for a query that begins now."""
        return Ticket(self.limits.seconds)

    @contextmanager
    def cursor(self, ticket: Ticket | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection, interrupted when the query is over; without a ticket, after the time limit.

        Raises QueryTooExpensive when the query exceeded a limit, QueryCancelled when nobody waits for it.
        """
        ticket = ticket or self.ticket()
        connection = self._database.cursor()
        done, over = threading.Event(), threading.Event()

        def watch() -> None:
            if not ticket.wait(done):
                over.set()
                connection.interrupt()
                while not done.wait(0.05):  # an interrupt between two statements is lost
                    connection.interrupt()

        watching = threading.Thread(target=watch, daemon=True)
        watching.start()
        try:
            yield connection
        except (duckdb.Error, OSError) as error:  # OSError: pyarrow's word for an error in the midst of a result
            raise self._explained(error, ticket if over.is_set() else None) from error
        finally:
            done.set()
            watching.join()
            connection.close()

    def _explained(self, error: Exception, over: Ticket | None) -> AtalaiaError:
        reason = str(error).splitlines()[0]
        if over and (isinstance(error, duckdb.InterruptException) or "INTERRUPT" in reason):
            return over.why()
        if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory" in reason:
            return QueryTooExpensive(
                f"the query needs more than {self.limits.memory >> 20} MiB of memory",
                "ask for a shorter time or fewer labels",
            )
        log.error("event=query_failed reason=%r", str(error))
        return QueryFailed(f"the query failed: {reason}", "please report this")

    def close(self) -> None:
        """Release the database."""
        self._database.close()


def _register(connection: duckdb.DuckDBPyConnection, stream_labels: StreamLabels) -> None:
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
