"""`json`: values of JSON objects, found by JMESPath. Source: https://jmespath.org/specification.html.

Names and indexes (`a.b[0]`) are looked up by DuckDB in whole columns. Other expressions, and lines in which DuckDB
reads something else than Promtail (a key that stands twice, a comma too many), go line by line through Python.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import jmespath
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jmespath.exceptions import JMESPathError

from atalaia.collector.entries import Entries, column
from atalaia.collector.stages import gojson
from atalaia.collector.stages.stage import Build, Stage, StageError
from atalaia.collector.stages.values import put, source_of, true
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.sqltext import literal

if TYPE_CHECKING:
    import duckdb

_NAME = re.compile(r'\s*(?:([A-Za-z_][A-Za-z0-9_]*)|"([^"\\*]+)")')
_INDEX = re.compile(r"\[(\d{1,6})\]")
# What DuckDB takes as JSON and Promtail does not; a name between quotes that comes twice is added for each path.
_LENIENT = r",\s*[}\]]|[:\[,]\s*[-+]?(?i:nan|inf|infinity)\s*[,}\]]"


def steps(expression: str) -> list[str | int] | None:
    """The names and indexes of a JMESPath like `a.b`, `"x-y"[0]`; None for what has anything else."""
    found: list[str | int] = []
    at = 0
    while at < len(expression):
        index = _INDEX.match(expression, at)
        if index and found:
            found.append(int(index[1]))
            at = index.end()
            continue
        if found:
            if expression[at] != ".":
                break
            at += 1
        name = _NAME.match(expression, at)
        if not name:
            return None
        found.append(name[1] or name[2])
        at = name.end()
    return found if found and not expression[at:].strip() else None


class Json:
    """`json`: values of a JSON object become extracted values, and what it does not have is taken away.

    A text that is no JSON object keeps what it had, or is dropped (`drop_malformed`). `expressions` maps the new name
    to a JMESPath; without one the name itself is looked up.
    """

    name: ClassVar[str] = "json"

    def __init__(
        self, expressions: Mapping[str, str | None], source: str | None = None, drop_malformed: bool = False
    ) -> None:
        """Raises StageError."""
        if not expressions:
            raise StageError("JMES expression is required (it has no expressions)")
        self.expressions = {name: path or name for name, path in expressions.items()}
        self.source = source
        self.drop_malformed = drop_malformed
        self._compiled = {name: _compiled(path) for name, path in self.expressions.items()}
        self._steps = {name: found for name, path in self.expressions.items() if (found := steps(path)) is not None}
        self._odd = "|".join([_LENIENT, *(_twice(name) for name in _names(self._steps))])

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "json", {"expressions", "source", "drop_malformed"})
        expressions = reader.texts(body.get("expressions"), "json.expressions")
        drop = reader.flag(body.get("drop_malformed"), "json.drop_malformed")
        return cls(expressions, source_of(reader, "json", body), drop)

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset({self.source} if self.source else ())

    def narrowed(self, wanted: frozenset[str]) -> Stage:
        """See narrow.Narrowing."""
        kept = {name: path for name, path in self.expressions.items() if name in wanted}
        if len(kept) == len(self.expressions) or (not kept and self.drop_malformed):
            return self
        return Json(kept, self.source, self.drop_malformed) if kept else _Nothing()

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        text = entries.source(self.source)
        size = len(text)
        # What begins with a bracket may be an object; blanks before it, and null, are as rare as they are allowed.
        begins = true(pc.starts_with(text, "{"))
        rare = true(pc.match_substring_regex(text, r"^(?:[ \t\r\n]+\{|[ \t\r\n]*null[ \t\r\n]*$)"))
        quick = begins.copy() if len(self._steps) == len(self.expressions) else np.zeros(size, bool)
        if quick.any():
            quick &= ~true(pc.match_substring_regex(text, self._odd))
        columns: dict[str, pa.Array] = {}
        fine = np.zeros(size, bool)
        if quick.any():
            columns, fine = self._looked_up(text, quick)
        slow = np.flatnonzero((begins | rare) & ~fine)
        if len(slow):
            read = slow if not quick.any() else slow[~quick[slow] | true(pc.match_substring(text.take(slow), "\\u"))]
            columns, fine = self._read_rows(entries, read, columns, fine)
        if self.drop_malformed:
            known = true(pc.is_valid(text))
            if not (fine | ~known).all():
                kept = fine | ~known
                rows = pa.array(np.flatnonzero(kept))
                columns = {name: column.take(rows) for name, column in columns.items()}
                entries, fine = entries.filter(kept), fine[kept]
        return put(entries, columns, fine) if fine.any() else entries

    def _looked_up(self, text: pa.Array, rows: np.ndarray) -> tuple[dict[str, pa.Array], np.ndarray]:
        """Values of the rows of a mask by DuckDB, as columns over all rows; and the mask of what is JSON."""
        chosen = text if rows.all() else text.filter(pa.array(rows))
        database = _database()
        database.register("batch", pa.table({"text": chosen}))
        paths = ", ".join(literal(_json_path(found)) for found in self._steps.values())
        # A list of paths is answered in one parse of the line.
        sql = f"SELECT CASE WHEN json_valid(text) THEN json_extract(text, [{paths}]) END AS v FROM batch"
        found = database.sql(sql).to_arrow_table().column("v").combine_chunks()
        database.unregister("batch")
        valid = pc.is_valid(found).to_numpy(zero_copy_only=False)
        values = gojson.texts(found.flatten().cast(pa.utf8()))
        fine = rows.copy()
        fine[rows] = valid
        place = np.zeros(len(text), np.int64)
        place[fine] = np.arange(int(valid.sum())) * len(self._steps)
        known = None if fine.all() else ~fine
        return {
            name: values.take(pa.array(place + number, mask=known)) for number, name in enumerate(self._steps)
        }, fine

    def _read_rows(
        self, entries: Entries, rows: np.ndarray, columns: dict[str, pa.Array], fine: np.ndarray
    ) -> tuple[dict[str, pa.Array], np.ndarray]:
        """The same of some rows one by one; a search that fails leaves what was there."""
        text = entries.source(self.source)
        found: dict[str, list[str | None]] = {name: [] for name in self.expressions}
        good = []
        searches = [(name, self._steps.get(name), self._compiled[name].search) for name in self.expressions]
        for row, line in zip(rows.tolist(), text.take(pa.array(rows)).to_pylist(), strict=True):
            try:
                data = gojson.loads(line)
            except gojson.Malformed:
                continue
            good.append(row)
            for name, path, search in searches:
                try:
                    value = gojson.text_of(search(data) if path is None else _walked(data, path))
                except (JMESPathError, ValueError, TypeError, ArithmeticError, RecursionError):
                    value = column(entries.extracted.get(name), len(text))[row].as_py()
                found[name].append(value)
        if not good:
            return columns, fine
        mask = np.zeros(len(text), bool)
        mask[good] = True
        for name, values in found.items():
            before = columns.get(name, pa.nulls(len(text), pa.utf8()))
            columns[name] = pc.replace_with_mask(before, pa.array(mask), pa.array(values, pa.utf8()))
        return columns, fine | mask


class _Nothing:
    """A json stage whose values nobody reads."""

    name: ClassVar[str] = "json"

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset()

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        return entries


_local = threading.local()


def _database() -> duckdb.DuckDBPyConnection:
    """One for all stages of a thread."""
    import duckdb

    if not hasattr(_local, "database"):
        _local.database = duckdb.connect(config={"threads": 1})
    found: duckdb.DuckDBPyConnection = _local.database
    return found


def _compiled(expression: str) -> Any:
    try:
        return jmespath.compile(expression)
    except (JMESPathError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise StageError(f"could not compile JMES expression {expression!r}: {reason}") from error


def _json_path(found: list[str | int]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f'."{step}"' for step in found)


def _names(paths: Mapping[str, list[str | int]]) -> list[str]:
    return list(dict.fromkeys(step for found in paths.values() for step in found if isinstance(step, str)))


def _twice(name: str) -> str:
    key = f'"{re.escape(name)}"\\s*:' if name.isascii() else f'"{name}"\\s*:'
    return f"(?s:{key}.*{key})"


def _walked(data: Any, path: list[str | int]) -> Any:
    for step in path:
        if isinstance(step, str):
            data = data.get(step) if isinstance(data, dict) else None
        else:
            data = data[step] if isinstance(data, list) and step < len(data) else None
    return data
