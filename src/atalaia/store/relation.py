"""What a query reads of a snapshot, as a SQL relation for DuckDB."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.store import metadata, sql
from atalaia.store.decide import LineCondition, Verdict
from atalaia.store.memory import SCHEMA
from atalaia.store.prune import Choice, Question, choose, verdicts
from atalaia.store.segment import Segment
from atalaia.store.snapshot import Part
from atalaia.store.streams import Selection

_TEXT_MOST = 100_000  # characters of templates written into the SQL
_BLOCKS_MOST = 2_000  # row groups written into the SQL one by one


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of one part. `passed_over`: row groups that are not read, by time, streams, templates, tokens.

    `line_bytes`: of the lines of the `rows` entries; `file_bytes`: of their part of the file (0: in memory). Where not
    all of a segment is read, both are the segment's by its entries' number.
    """

    name: str
    rows: int
    groups: int
    read: int
    passed_over: dict[str, int]
    line_bytes: int = 0
    file_bytes: int = 0


def numbers(ids: Collection[int] | np.ndarray) -> np.ndarray:
    """Stream numbers as an array, ascending; an array is taken for that."""
    if isinstance(ids, (Selection, np.ndarray)):
        return ids.ids if isinstance(ids, Selection) else ids
    return np.sort(np.fromiter(ids, np.int32, len(ids)))


def chosen(parts: Sequence[Part], ids: Collection[int] | np.ndarray, start: int, end: int) -> list[Part]:
    """The parts that may hold entries of the streams `ids` in [start, end) (ns)."""
    wanted = numbers(ids)
    return [part for part in parts if part.may_hold(wanted, start, end)]


def streams_in(connection: duckdb.DuckDBPyConnection, part: Part, start: int, end: int) -> set[int]:
    """The streams that have entries of a part in [start, end) ns; about, where the part tells without being read."""
    if part.max_ts < start or part.min_ts >= end or (part.held is None and not part.readable()):
        return set()
    if part.held is not None:
        return set(part.held.streams[part.held.within(start, end)].tolist())
    if part.path is None:
        connection.register("memory_entries", pa.Table.from_batches(part.batches, SCHEMA))
    source = _parquet([part]) if part.path else "memory_entries"
    rows = connection.execute(f"SELECT DISTINCT stream_id FROM {source} WHERE ts >= {start:d} AND ts < {end:d}")
    return set(rows.fetchnumpy()["stream_id"].tolist())


def relation(
    connection: duckdb.DuckDBPyConnection,
    parts: Sequence[Part],
    ids: Collection[int] | np.ndarray,
    start: int,
    end: int,
    lines: tuple[LineCondition, ...] = (),
    *,
    keys: Mapping[str, str] | None = None,
    templates: bool = False,
    readings: list[Reading] | None = None,
    check: Callable[[], None] = lambda: None,
) -> str:
    """A SELECT of ts, seq, stream_id, line, metadata: entries of `parts`, of `ids`, in [start, end), that pass `lines`.

    For each metadata key of `keys` it has a column more, of the name given there, in SQL: faster than the map. With
    `templates` it also has the column `template`, null where the store keeps none. Memory tables are registered with
    `connection`, which must not be shared with another query. `readings` takes what is read of each part. Segments that
    turn out to be damaged are left out; before each that has to be looked at `check` is called, which may raise.
    """
    question = Question(numbers(ids), start, end, lines)
    reader = _Reader(connection, question, keys or {}, templates)
    indexed = [(part, index) for part in parts if (index := part.index) is not None]
    known = verdicts([index for _, index in indexed], lines) if lines else {}
    choices = [choose(part, index, question, known) for part, index in indexed]
    choices = [choice for choice in choices if not choice.read.any() or _readable(choice.part, check)]
    by_keys: dict[tuple[str, ...], list[Choice]] = {}
    for choice in choices:
        by_keys.setdefault(choice.part.segment.keys if choice.part.segment else (), []).append(choice)
    branches = [branch for some in by_keys.values() for branch in reader.indexed(some, known)]
    plain = [part for part in parts if part.path is not None and part.index is None and _readable(part, check)]
    by_plain: dict[tuple[str, ...], list[Part]] = {}
    for part in plain:
        by_plain.setdefault(part.segment.keys if part.segment else (), []).append(part)
    branches += [reader.whole(some, own) for own, some in by_plain.items()]
    memory = [part for part in parts if part.batches]
    if memory or not branches:
        connection.register("memory_entries", pa.Table.from_batches([b for p in memory for b in p.batches], SCHEMA))
        branches.append(reader.select("memory_entries", memory, (), [_looked_at(condition) for condition in lines]))
    if readings is not None:
        readings += [_reading(choice) for choice in choices]
        readings += [_whole(part) for part in (*plain, *memory)]
    return " UNION ALL ".join(branches)


def _reading(choice: Choice) -> Reading:
    name = choice.part.path.name if choice.part.path else ""
    considered = len(choice.index) if choice.part.groups is None else len(choice.part.groups)
    rows = int(choice.index.rows[choice.read].sum())
    return Reading(
        name, rows, considered, int(choice.read.sum()), dict(choice.passed_over), *_sizes(choice.part.segment, rows)
    )


def _whole(part: Part) -> Reading:
    """Of a part without an index."""
    if part.segment is not None:
        return Reading(part.segment.name, part.rows, 0, 0, {}, *_sizes(part.segment, part.rows))
    lines = pa.chunked_array([batch.column("line") for batch in part.batches], pa.utf8())
    return Reading("memory", part.rows, 0, 0, {}, pc.sum(pc.binary_length(lines)).as_py() or 0)


def _sizes(segment: Segment | None, rows: int) -> tuple[int, int]:
    if segment is None or not segment.rows:
        return 0, 0
    return segment.line_bytes * rows // segment.rows, segment.size * rows // segment.rows


def _looked_at(condition: LineCondition) -> str:
    """The condition's SQL; one with a regex is kept out of the reader of Parquet files.

    The reader looks at no interrupt before a row group's end, and of some expressions RE2 makes no automaton: then a
    row group takes many seconds. A condition of two columns it leaves to DuckDB.
    """
    return f"({condition.sql} OR ts IS NULL)" if any(test.regex for test in condition.tests) else condition.sql


def _readable(part: Part, check: Callable[[], None]) -> bool:
    if part.intact is not None:
        check()
    return part.readable()


class _Reader:
    """Writes the SELECTs of one relation."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        question: Question,
        keys: Mapping[str, str],
        templates: bool,
    ) -> None:
        self._connection = connection
        self._question = question
        self._keys = keys
        self._with_templates = templates
        self._tables = 0

    def indexed(self, choices: Sequence[Choice], known: dict[str, Verdict]) -> list[str]:
        """Of compacted segments with the same columns: what needs no look at lines, or at those alone, or at both."""
        found = []
        for certain, foreign in ((True, None), (False, False), (False, True)):
            some = []
            for choice in choices:
                groups = choice.read & (choice.certain if certain else ~choice.certain)
                if foreign is not None:
                    groups &= choice.foreign if foreign else ~choice.foreign
                if groups.any():
                    some.append((choice, groups))
            if not some:
                continue
            conditions = self._blocks(some)
            seen = dict.fromkeys(text for choice, _ in some for text in choice.index.templates)
            if any((choice.foreign & groups).any() for choice, groups in some) or not certain:
                conditions += self._templates([t for t in seen if t in known], known, certain, some)
            parts = [choice.part for choice, _ in some]
            low = min(int(choice.index.min_ts[groups].min()) for choice, groups in some)
            high = max(int(choice.index.max_ts[groups].max()) for choice, groups in some)
            own = parts[0].segment.keys if parts[0].segment else ()
            found.append(self.select(_parquet(parts), parts, own, conditions, low, high))
        return found

    def _blocks(self, some: Sequence[tuple[Choice, np.ndarray]]) -> list[str]:
        """Names the row groups of the files, unless all are read."""
        if all(groups.all() for _, groups in some):
            return []
        wanted = [
            np.flatnonzero(groups) + (choice.part.segment.number << 20 if choice.part.segment else 0)
            for choice, groups in some
        ]
        blocks = np.unique(np.concatenate(wanted))
        if len(blocks) <= _BLOCKS_MOST:
            return [f"block IN ({', '.join(map(str, blocks.tolist()))})"]
        self._tables += 1
        table = f"wanted_blocks_{self._tables}"
        self._connection.register(table, pa.table({"id": blocks}))
        edges = f"block BETWEEN {blocks[0]} AND {blocks[-1]}"
        return [edges, f"block IN (SELECT id FROM {table})"]

    def _templates(
        self, seen: Sequence[str], known: dict[str, Verdict], certain: bool, some: Sequence[tuple[Choice, np.ndarray]]
    ) -> list[str]:
        """What must hold of a row: its template passes, or may pass and the line does."""
        every = [text for text in seen if known[text] is Verdict.ALL]
        maybe = [text for text in seen if known[text] is Verdict.SOME]
        lines = " AND ".join(map(_looked_at, self._question.lines))
        if len(every) + len(maybe) > sql.LIST_MOST or sum(map(len, (*every, *maybe))) > _TEXT_MOST:
            # Planning so long a list would take longer than reading the lines.
            return [lines]
        if certain:
            return [_in_templates(every)]
        if not any((choice.foreign & groups).any() for choice, groups in some):
            return [lines]
        tests = [f"({_in_templates(maybe)} AND {lines})"] if maybe else []
        tests += [_in_templates(every)] if every else []
        if not all(choice.index.has_templates[groups].all() for choice, groups in some):
            tests.append(f"(template IS NULL AND {lines})")
        return [f"({' OR '.join(tests)})"]

    def whole(self, parts: Sequence[Part], own: tuple[str, ...]) -> str:
        """Of segments without an index."""
        return self.select(_parquet(parts), parts, own, list(map(_looked_at, self._question.lines)))

    def select(
        self,
        source: str,
        parts: Sequence[Part],
        own: tuple[str, ...],
        conditions: Sequence[str],
        low: int | None = None,
        high: int | None = None,
    ) -> str:
        """Over a source of entries; `low` and `high` are its range of time, else that of the parts."""
        question = self._question
        where = []
        if (min((p.min_ts for p in parts), default=0) if low is None else low) < question.start:
            where.append(f"ts >= {question.start:d}")
        if (max((p.max_ts for p in parts), default=0) if high is None else high) >= question.end:
            where.append(f"ts < {question.end:d}")
        if not all(p.held is not None and np.isin(p.held.streams, question.ids).all() for p in parts):
            where.append(sql.in_streams(self._connection, question.ids, "wanted_streams"))
        where += conditions
        hidden = {deletion.id: deletion for part in parts for deletion in part.hidden}
        where += [f"NOT {deletion.sql(self._connection)}" for deletion in hidden.values()]
        whole = "metadata" if not own else _joined(own)
        columns = ["ts", "seq", "stream_id", "line", f"{whole} AS metadata"]
        columns += [
            f"{sql.name(metadata.PREFIX + key) if key in own else f'metadata[{sql.literal(key)}]'} AS {column}"
            for key, column in self._keys.items()
        ]
        if self._with_templates:
            indexed = all(part.index is not None for part in parts) and bool(parts)
            columns.append("template" if indexed else "NULL::VARCHAR AS template")
        return f"SELECT {', '.join(columns)} FROM {source}" + (f" WHERE {' AND '.join(where)}" if where else "")


def _parquet(parts: Sequence[Part]) -> str:
    files = dict.fromkeys(part.path for part in parts if part.path is not None)
    return f"read_parquet([{', '.join(_path(path) for path in files)}])"


def _path(path: Path) -> str:
    return sql.literal(str(path))


def _in_templates(templates: Sequence[str]) -> str:
    return f"template IN ({', '.join(sql.literal(template) for template in templates)})"


def _joined(own: Sequence[str]) -> str:
    """The map of all metadata, null for none, where some keys have columns of their own."""
    names = [sql.name(metadata.PREFIX + key) for key in own]
    found = [f"CASE WHEN {name} IS NOT NULL THEN {sql.literal(key)} END" for key, name in zip(own, names, strict=True)]
    keys, values = (
        f"list_concat(COALESCE({rest}(metadata), []), list_filter([{', '.join(some)}], lambda x: x IS NOT NULL))"
        for rest, some in (("map_keys", found), ("map_values", names))
    )
    return f"NULLIF(map({keys}, {values}), map([]::VARCHAR[], []::VARCHAR[]))"
