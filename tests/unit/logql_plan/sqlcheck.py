"""Runs pipelines over entries that were never stored: the SQL of plan.py beside the Python of rows.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from atalaia.logql import rows
from atalaia.logql.parse import parse
from atalaia.logql.plan import Pipeline, Streams, compile_pipeline
from atalaia.logql.printer import print_query
from atalaia.logql.sqltext import literal
from atalaia.logql.tree import LogQuery
from atalaia.query.engine import Engine
from atalaia.store.memory import SCHEMA


@dataclass(frozen=True)
class Entry:
    line: str
    stream: Mapping[str, str] = field(default_factory=lambda: {"app": "a"})
    metadata: Mapping[str, str] | None = None


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    engine = Engine()
    yield engine
    engine.close()


def log_query(text: str) -> LogQuery:
    tree = parse(text)
    assert isinstance(tree, LogQuery), print_query(tree)
    return tree


def select(
    engine: Engine, query: LogQuery, entries: Sequence[Entry], columns: Sequence[str] = ()
) -> list[list[object]]:
    """For each entry that passes: its number, then the labels `columns`, then its error."""
    pipeline, table = compiled(query, entries)
    wanted = ", ".join(["seq", *(pipeline.label(name) for name in columns), pipeline.error or "NULL"])
    with engine.cursor() as connection:
        connection.register("rows", table)
        where = pipeline.where()
        keys = "".join(f", metadata[{literal(key)}] AS {column}" for key, column in pipeline.keys.items())
        sql = f"SELECT {wanted} FROM (SELECT *{keys} FROM rows){where} ORDER BY seq"
        return [list(row) for row in connection.execute(sql).fetchall()]


def compiled(query: LogQuery, entries: Sequence[Entry]) -> tuple[Pipeline, pa.Table]:
    numbers: dict[tuple[tuple[str, str], ...], int] = {}
    ids = [numbers.setdefault(tuple(sorted(e.stream.items())), len(numbers) + 1) for e in entries]
    streams = Streams({number: dict(labels) for labels, number in numbers.items()})
    metadata = [None if e.metadata is None else list(e.metadata.items()) for e in entries]
    columns = [
        pa.array([0] * len(entries), pa.int64()),
        pa.array(range(len(entries)), pa.int64()),
        pa.array(ids, pa.int32()),
        pa.array([e.line for e in entries], pa.utf8()),
        pa.array(metadata, SCHEMA.field("metadata").type),
    ]
    return compile_pipeline(query, streams), pa.Table.from_arrays(columns, schema=SCHEMA)


def passing(engine: Engine, query: str, entries: Sequence[Entry]) -> list[str]:
    """The lines that pass."""
    return [entries[row[0]].line for row in select(engine, log_query(query), entries)]  # type: ignore[call-overload]


def labels(query: str, entry: Entry) -> dict[str, str]:
    """All labels of an entry that passes."""
    found = rows.pipeline(log_query(query))(0, entry.line, entry.stream, entry.metadata or {})
    assert found is not None
    return found.all()
