"""What a query reads of a snapshot, as a SQL relation for DuckDB."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa

from atalaia.store.decide import LineCondition, Verdict, decide
from atalaia.store.memory import SCHEMA
from atalaia.store.snapshot import Part

COLUMNS = ("ts", "seq", "stream_id", "line", "metadata")
_LIST_MOST = 500  # streams or templates written into the SQL; more streams become a table, more templates are read
_TEXT_MOST = 100_000  # characters of templates written into the SQL


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
    connection: duckdb.DuckDBPyConnection,
    parts: Sequence[Part],
    ids: Collection[int],
    start: int,
    end: int,
    lines: tuple[LineCondition, ...] = (),
) -> str:
    """A SELECT of `COLUMNS` over the entries of `parts` that are of `ids`, in [start, end), and pass all of `lines`.

    Memory tables are registered with `connection`, which must not be shared with another query.
    """
    where = []
    if any(part.min_ts < start for part in parts):
        where.append(f"ts >= {start:d}")
    if any(part.max_ts >= end for part in parts):
        where.append(f"ts < {end:d}")
    if not all(stream in ids for part in parts for stream in part.streams):
        where.append(_in_streams(connection, ids))
    scanned = [condition.sql for condition in lines]
    known = [part for part in parts if part.templates is not None] if lines else []
    plain = [part.path for part in parts if part.path and (part.templates is None or not lines)]
    batches = [batch for part in parts for batch in part.batches]
    sources = []
    if known:
        files, by_template = _by_template(known, lines)
        if files:
            sources.append((_parquet(files), [*where, *by_template]))
    if plain:
        sources.append((_parquet(plain), where + scanned))
    if batches or not sources:
        connection.register("memory_entries", pa.Table.from_batches(batches, SCHEMA))
        sources.append(("memory_entries", where + scanned))
    columns = ", ".join(COLUMNS)
    return " UNION ALL ".join(
        f"SELECT {columns} FROM {source}" + (f" WHERE {' AND '.join(conditions)}" if conditions else "")
        for source, conditions in sources
    )


def _parquet(files: Sequence[Path]) -> str:
    return f"read_parquet([{', '.join(_literal(str(path)) for path in files)}])"


def _by_template(parts: Sequence[Part], lines: tuple[LineCondition, ...]) -> tuple[list[Path], list[str]]:
    """The files that may hold lines that pass, and what must hold of their rows: a template, or the line itself."""
    letters: dict[str, set[str]] = {}
    for part in parts:
        for template, held in (part.templates or {}).items():
            letters.setdefault(template, set()).update(held)
    verdicts = {template: decide(template, frozenset(held), lines) for template, held in letters.items()}
    kept = [p for p in parts if any(verdicts[t] is not Verdict.NONE for t in p.templates or {})]
    seen = dict.fromkeys(t for part in kept for t in part.templates or {})
    every = [t for t in seen if verdicts[t] is Verdict.ALL]
    some = [t for t in seen if verdicts[t] is Verdict.SOME]
    read = " AND ".join(condition.sql for condition in lines)
    if len(every) + len(some) > _LIST_MOST or sum(map(len, (*every, *some))) > _TEXT_MOST:
        # Planning so long a list would take longer than reading the lines.
        return [part.path for part in kept if part.path], [read]
    tests = []
    if every and len(every) < len(seen):
        tests.append(_in_templates(every))
    if some:
        tests.append(read if len(some) == len(seen) else f"({_in_templates(some)} AND {read})")
    return [part.path for part in kept if part.path], [f"({' OR '.join(tests)})"] if tests else []


def _in_templates(templates: Sequence[str]) -> str:
    return f"template IN ({', '.join(_literal(template) for template in templates)})"


def _literal(text: str) -> str:
    """A string in SQL; NUL, which SQL text cannot hold, by way of chr(0)."""
    quoted = "'" + text.replace("'", "''") + "'"
    return "(" + quoted.replace("\0", "' || chr(0) || '") + ")" if "\0" in text else quoted


def _in_streams(connection: duckdb.DuckDBPyConnection, ids: Collection[int]) -> str:
    if len(ids) <= _LIST_MOST:
        return f"stream_id IN ({', '.join(str(int(i)) for i in sorted(ids)) or 'NULL'})"
    connection.register("wanted_streams", pa.table({"id": pa.array(sorted(ids), pa.int32())}))
    return "stream_id IN (SELECT id FROM wanted_streams)"
