"""A range aggregation's samples as SQL over a relation of entries, and what SQL keeps of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from . import amounts
from .conditions import Inexpressible, names_in
from .extract import ERROR, PARSER_ERRORS
from .matrix import Labels
from .plan import Pipeline, needs_parsing
from .series import grouping_of, keys_of
from .sqltext import literal
from .tree import Grouping, LabelFilter, RangeAggregation, Unwrap
from .unwrap import kind_of, sample_error
from .window import Grid


@dataclass(frozen=True, slots=True)
class Samples:
    """`sql`: a relation of `keys` columns k0, k1 …, ts, seq and v, and `fault`: whether an entry fails the query.

    `labels`: a series' labels by its keys.
    """

    sql: str
    keys: int
    labels: Callable[[Sequence[Any]], Labels]

    def aggregated(self, grid: Grid, columns: Sequence[str], most: int) -> str:
        """SQL of a row a series, at most `most`: its keys, the list `kept` of (cell, columns), and `fault`."""
        keys = _numbered("k", self.keys)
        named = ", ".join(f"{sql} AS s{n}" for n, sql in enumerate(columns))
        cells = (
            f"SELECT {keys}, {grid.cell_sql()} AS cell, {named}, bool_or(fault) AS fault FROM ({self.sql})"
            f" GROUP BY {keys}, cell HAVING count(v) > 0 OR bool_or(fault)"
        )
        return self._by_series(cells, ["cell", *(f"s{n}" for n in range(len(columns)))], most)

    def collected(self, most: int, samples: int) -> str:
        """The same with every sample (ts, seq, v), of at most `samples`."""
        found = f"SELECT * FROM ({self.sql}) WHERE v IS NOT NULL OR fault LIMIT {samples:d}"
        return self._by_series(found, ["ts", "seq", "v"], most)

    def _by_series(self, source: str, columns: Sequence[str], most: int) -> str:
        keys = _numbered("k", self.keys)
        row = ", ".join(f"'{name}': {name}" for name in columns)
        kept = f"list({{{row}}}) AS kept, bool_or(fault) AS fault"
        return f"SELECT {keys}, {kept} FROM ({source}) GROUP BY {keys} LIMIT {most:d}"


def _numbered(name: str, count: int) -> str:
    return ", ".join(f"{name}{n}" for n in range(count))


@dataclass(slots=True)
class _Unwrapped(Pipeline):
    """What is behind an unwrap: a pipeline over columns that hold the labels."""

    columns: dict[str, str] = field(default_factory=dict)

    def label(self, name: str) -> str:
        return self.error or "NULL::VARCHAR" if name == ERROR else self.columns[name]


def samples_of(pipeline: Pipeline, tree: RangeAggregation, grouping: Grouping | None, source: str) -> Samples:
    """The samples of the entries of `source`, with its columns too. Raises Inexpressible where SQL is not enough."""
    if not pipeline.whole:
        raise Inexpressible
    if pipeline.error and (grouping is None or grouping.without) and keeps_errors(tree, grouping):
        raise Inexpressible  # an error's details are labels then
    entries = f"FROM {source}{pipeline.where(lines=False)}"
    pipeline, column = pipeline.decided("usual")
    if column:
        entries = f"FROM (SELECT *{column} {entries})"
    keys = keys_of(pipeline, Grouping(False, ()) if tree.op == "absent_over_time" else grouping_of(tree, grouping))
    named = "".join(f"{sql} AS k{n}, " for n, sql in enumerate(keys.columns))
    if tree.unwrap is not None:
        sql = _unwrapped(pipeline, tree, grouping, named, entries)
    else:
        value = f"strlen({pipeline.line})::DOUBLE" if tree.op.startswith("bytes") else "1::DOUBLE"
        fault = _fault(pipeline.error, tree, grouping) if pipeline.error and fails(tree, grouping) else "false"
        sql = f"SELECT {named} *, {value} AS v, {fault} AS fault {entries}"
    return Samples(sql, len(keys.columns), keys.labels)


def _unwrapped(pipeline: Pipeline, tree: RangeAggregation, grouping: Grouping | None, named: str, entries: str) -> str:
    stage = cast("Unwrap", tree.unwrap)
    # Each text is made once. A SELECT decides what passes: a WHERE would be pushed down to where texts are made.
    names = [
        n for n in dict.fromkeys(name for f in tree.unwrap_filters for name in names_in(f.condition)) if n != ERROR
    ]
    made = "".join(f"{pipeline.label(name)} AS f{n}, " for n, name in enumerate(names))
    text = f"NULLIF({pipeline.label(stage.label)}, '') AS u, {pipeline.error or 'NULL::VARCHAR'} AS e"
    after = _Unwrapped(pipeline.streams, error=f"COALESCE({sample_error('u', 'w')}, e)")
    after.columns = {name: f"f{n}" for n, name in enumerate(names)}
    for filter_ in tree.unwrap_filters:
        after.add(filter_)
    passes = " AND ".join(["u IS NOT NULL", *after.conditions])
    values = f"SELECT *, {amounts.read('u', kind_of(stage))} AS w FROM (SELECT {named} *, {made} {text} {entries})"
    fault = _fault(str(after.error), tree, grouping)
    return f"SELECT *, CASE WHEN {passes} THEN w END AS v, {passes} AND {fault} AS fault FROM ({values})"


def _fault(error: str, tree: RangeAggregation, grouping: Grouping | None) -> str:
    """SQL of whether an error fails the query."""
    if not keeps_errors(tree, grouping):
        return f"({error}) IS NOT NULL"
    return f"COALESCE(({error}) NOT IN ({', '.join(map(literal, PARSER_ERRORS))}), false)"


def keeps_errors(tree: RangeAggregation, grouping: Grouping | None) -> bool:
    """Whether entries with a parser's error count like others: as in Loki, where the query names the error."""
    filters = (*(stage for stage in tree.query.stages if isinstance(stage, LabelFilter)), *tree.unwrap_filters)
    named = any(ERROR in names_in(stage.condition) for stage in filters)
    return named or (grouping is not None and not grouping.without and ERROR in grouping.labels)


def fails(tree: RangeAggregation, grouping: Grouping | None) -> bool:
    """Whether an entry with an error fails the query."""
    return tree.unwrap is not None or needs_parsing(tree.query, grouping)
