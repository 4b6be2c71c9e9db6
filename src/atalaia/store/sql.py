"""What the store says in SQL: texts, names, conditions on lines and streams."""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow as pa

from atalaia.store.decide import LineCondition, LineTest

LIST_MOST = 500
"""Streams or templates written into the SQL; longer lists would take longer to plan than they save."""


def literal(text: str) -> str:
    """A string; NUL, which SQL text cannot hold, by way of chr(0)."""
    quoted = "'" + text.replace("'", "''") + "'"
    return "(" + quoted.replace("\0", "' || chr(0) || '") + ")" if "\0" in text else quoted


def name(text: str) -> str:
    """A column's name."""
    return '"' + text.replace('"', '""') + '"'


def line_condition(tests: tuple[LineTest, ...], negated: bool) -> LineCondition:
    """A condition that its tests say exactly."""
    joined = f"({' OR '.join(map(_test, tests))})"
    return LineCondition(f"NOT {joined}" if negated else joined, tests, negated)


def _test(test: LineTest) -> str:
    return f"{'regexp_matches' if test.regex else 'contains'}(line, {literal(test.text)})"


def in_streams(connection: duckdb.DuckDBPyConnection, ids: np.ndarray, table: str) -> str:
    """Whether `stream_id` is one of `ids`; a long list is registered with `connection` under the name `table`."""
    if len(ids) <= LIST_MOST:
        return f"stream_id IN ({', '.join(map(str, ids.tolist())) or 'NULL'})"
    connection.register(table, pa.table({"id": pa.array(ids, pa.int32())}))
    return f"stream_id IN (SELECT id FROM {table})"
