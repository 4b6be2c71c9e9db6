"""Patterns of lines and how often each occurs: from the templates that the store keeps, or makes of lines here."""

from __future__ import annotations

from dataclasses import dataclass

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.environment.errors import InputError
from atalaia.query.counting import Window
from atalaia.query.engine import Engine
from atalaia.query.patterntext import ANY, pattern_of
from atalaia.query.ticket import Ticket
from atalaia.store.decide import LineCondition
from atalaia.store.relation import relation
from atalaia.store.snapshot import Part
from atalaia.store.templates import masked

MAX_SAMPLES = 1_000_000
_BATCH = 50_000  # lines that templates are made of at a time
_KEPT = 4_096  # templates of such a batch, and _MOST of all, the most frequent; the lines of others are only counted
_MOST = 20_000
_COUNTED = pa.schema([("template", pa.utf8()), ("cell", pa.int64()), ("lines", pa.int64())])


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """Lines of the streams `ids` (ascending) in a window, and how many patterns of them."""

    ids: np.ndarray
    lines: tuple[LineCondition, ...]
    window: Window
    limit: int


@dataclass(frozen=True, slots=True)
class Found:
    """A pattern as `|>` takes it, and the lines in each cell that has any."""

    pattern: str
    cells: tuple[int, ...]
    lines: tuple[int, ...]


def patterns(engine: Engine, ticket: Ticket, parts: list[Part], asked: Asked) -> list[Found]:
    """The most frequent patterns, then by their text; what is beyond the limit is one pattern that takes any line.

    Every line is counted once. Raises InputError for too many samples.
    """
    indexed = [part for part in parts if part.index is not None]
    bare = [part for part in parts if part.index is None or not part.index.has_templates.all()]
    window = asked.window
    tables: list[pa.Table] = []
    with engine.cursor(ticket) as connection:

        def source(some: list[Part]) -> str:
            found = relation(
                connection, some, asked.ids, window.start, window.end, asked.lines, templates=True, check=ticket.check
            )
            ticket.check()
            return found

        if indexed:
            tables.append(_stored(connection, source(indexed), window))
        if bare:
            tables += _made(connection, source(bare), window, ticket)
    return _found(pa.concat_tables(tables), asked.limit) if tables else []


def _stored(connection: duckdb.DuckDBPyConnection, source: str, window: Window) -> pa.Table:
    """Lines whose template the store has."""
    return (
        connection.sql(
            f"SELECT template, {window.cell_sql()} AS cell, count(*) AS lines FROM ({source})"
            " WHERE template IS NOT NULL GROUP BY ALL"
        )
        .to_arrow_table()
        .cast(_COUNTED)
    )


def _made(connection: duckdb.DuckDBPyConnection, source: str, window: Window, ticket: Ticket) -> list[pa.Table]:
    """The others, whose template is made here."""
    sql = f"SELECT line, {window.cell_sql()} AS cell FROM ({source}) WHERE template IS NULL"
    found = []
    for batch in connection.sql(sql).to_arrow_reader(_BATCH):
        first = 0
        for texts in masked(batch.column(0).cast(pa.utf8())) if len(batch) else ():
            ticket.check()
            codes = texts.indices.to_numpy()
            cells = batch.column(1).slice(first, len(codes)).to_numpy()
            first += len(codes)
            keys, lines = np.unique(np.stack([codes.astype(np.int64), cells]), axis=1, return_counts=True)
            some = pa.table([texts.dictionary.take(pa.array(keys[0])), keys[1], lines], schema=_COUNTED)
            found.append(_frequent(some, _KEPT) if len(texts.dictionary) > _KEPT else some)
    return found


def _frequent(counted: pa.Table, most: int) -> pa.Table:
    """The same, with the template null where it is not among the most frequent."""
    totals = (
        counted.group_by("template")
        .aggregate([("lines", "sum")])
        .sort_by([("lines_sum", "descending"), ("template", "ascending")])
    )
    template = counted.column("template")
    kept = pc.is_in(template, totals.column("template").slice(0, most).combine_chunks())
    counted = counted.set_column(0, "template", pc.if_else(kept, template, None))
    return counted.group_by(["template", "cell"]).aggregate([("lines", "sum")]).rename_columns(_COUNTED.names)


def _found(counted: pa.Table, limit: int) -> list[Found]:
    if not len(counted):
        return []
    if pc.count_distinct(counted.column("template")).as_py() > _MOST:
        counted = _frequent(counted, _MOST)
    templates = counted.column("template").combine_chunks().dictionary_encode()
    # Templates that differ only in how a value is made up are one pattern.
    numbers: dict[str, int] = {ANY: 0}
    of_template = [numbers.setdefault(pattern_of(text), len(numbers)) for text in templates.dictionary.to_pylist()]
    pattern = np.array([0, *of_template])[templates.indices.fill_null(-1).to_numpy(zero_copy_only=False) + 1]
    lines = counted.column("lines").to_numpy()
    totals = np.zeros(len(numbers), np.int64)
    np.add.at(totals, pattern, lines)
    texts = list(numbers)
    order = sorted((n for n in range(len(texts)) if totals[n]), key=lambda n: (-totals[n], texts[n]))
    kept = np.zeros(len(texts), np.int64)
    kept[order[:limit]] = order[:limit]
    keys, inverse = np.unique(np.stack([kept[pattern], counted.column("cell").to_numpy()]), axis=1, return_inverse=True)
    if keys.shape[1] > MAX_SAMPLES:
        raise InputError(
            f"the patterns have {keys.shape[1]} samples; at most {MAX_SAMPLES} are answered", "ask for a larger step"
        )
    sums = np.zeros(keys.shape[1], np.int64)
    np.add.at(sums, inverse.reshape(-1), lines)
    at, starts = np.unique(keys[0], return_index=True)
    cells, counts = np.split(keys[1], starts[1:]), np.split(sums, starts[1:])
    found = [
        Found(texts[number], tuple(some.tolist()), tuple(how_many.tolist()))
        for number, some, how_many in zip(at.tolist(), cells, counts, strict=True)
    ]
    return sorted(found, key=lambda one: (-sum(one.lines), one.pattern))
