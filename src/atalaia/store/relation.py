"""What a query reads of a snapshot, as a SQL relation for DuckDB."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import duckdb
import pyarrow as pa

from atalaia.store.memory import SCHEMA
from atalaia.store.store import Part

COLUMNS = ("ts", "seq", "stream_id", "line", "metadata")
_LIST_MOST = 500  # streams written into the SQL; more of them become a table


def chosen(parts: Sequence[Part], ids: Collection[int], start: int, end: int) -> list[Part]:
    """The parts that may hold entries of the streams `ids` in [start, end) (ns)."""
    found = []
    for part in parts:
        if part.max_ts < start or part.min_ts >= end:
            continue
        held = part.streams
        smaller, larger = (ids, held) if len(ids) < len(held) else (held, ids)
        if any(i in larger and held[i].max_ts >= start and held[i].min_ts < end for i in smaller):
            found.append(part)
    return found


def relation(
    connection: duckdb.DuckDBPyConnection, parts: Sequence[Part], ids: Collection[int], start: int, end: int
) -> str:
    """A SELECT of `COLUMNS` over the entries of `parts` that are of `ids` and in [start, end).

    Memory tables are registered with `connection`, which must not be shared with another query.
    """
    files = [part.path for part in parts if part.path]
    batches = [batch for part in parts for batch in part.batches]
    where = []
    if any(part.min_ts < start for part in parts):
        where.append(f"ts >= {start:d}")
    if any(part.max_ts >= end for part in parts):
        where.append(f"ts < {end:d}")
    if not all(stream in ids for part in parts for stream in part.streams):
        where.append(_in_streams(connection, ids))
    condition = f" WHERE {' AND '.join(where)}" if where else ""
    sources = []
    if files:
        listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in files)
        sources.append(f"read_parquet([{listed}])")
    if batches or not files:
        connection.register("memory_entries", pa.Table.from_batches(batches, SCHEMA))
        sources.append("memory_entries")
    columns = ", ".join(COLUMNS)
    return " UNION ALL ".join(f"SELECT {columns} FROM {source}{condition}" for source in sources)


def _in_streams(connection: duckdb.DuckDBPyConnection, ids: Collection[int]) -> str:
    if len(ids) <= _LIST_MOST:
        return f"stream_id IN ({', '.join(str(int(i)) for i in sorted(ids)) or 'NULL'})"
    connection.register("wanted_streams", pa.table({"id": pa.array(sorted(ids), pa.int32())}))
    return "stream_id IN (SELECT id FROM wanted_streams)"
