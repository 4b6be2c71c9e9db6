"""Entries out of DuckDB into Python's memory, no more than an answer may have."""

from __future__ import annotations

from collections.abc import Sequence

import duckdb

from atalaia.query.ticket import QueryTooExpensive, Ticket

_AT_ONCE = 2048  # DuckDB's own chunk
Found = tuple[int, int, int, str, dict[str, str] | None]
"""ts, seq, stream, line, metadata."""


def fetched(result: duckdb.DuckDBPyConnection, ticket: Ticket, most: int) -> list[Found]:
    """All rows. Raises QueryTooExpensive when their lines have more than `most` bytes, about."""
    found: list[Found] = []
    left = most
    while rows := result.fetchmany(_AT_ONCE):
        ticket.check()
        found += rows
        left -= bounded(rows, left, most)
    return found


def bounded(rows: Sequence[Found], left: int, most: int) -> int:
    """Characters of the rows' lines. Raises QueryTooExpensive for more than are `left` of `most`."""
    size = sum(len(row[3]) for row in rows)
    if size > left:
        raise QueryTooExpensive(
            f"the lines of the answer, or those it is looked for in, have more than {most >> 20} MiB",
            "ask for fewer entries (limit), or filter lines first; [logs.limits] answer_size is the bound",
        )
    return size
