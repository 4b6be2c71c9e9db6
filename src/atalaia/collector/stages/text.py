"""Stages that take text apart: regex and json."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
import re2

from atalaia.collector.entries import Entries
from atalaia.collector.stages.stage import Build, Stage, StageError, needed
from atalaia.environment.yamlfile import Node, Reader

if TYPE_CHECKING:
    import duckdb


@dataclass(frozen=True, slots=True)
class Regex:
    """`regex`: named groups of an RE2 expression become extracted values.

    A line that does not match keeps what it had. `wanted` are the groups that a later stage reads (None: all of
    them); taking out no others saves half of the work.
    """

    expression: str
    source: str | None = None
    wanted: frozenset[str] | None = None
    name: ClassVar[str] = "regex"

    def __post_init__(self) -> None:
        try:
            compiled = re2.compile(self.expression)
        except re2.error as error:
            message = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
            raise StageError(f"the expression is not RE2: {message}") from error
        names = [m[2] for m in _GROUP.finditer(self.expression) if m[2]]
        if not compiled.groupindex:
            raise StageError("the expression has no named group (?P<name>…)")
        if len(names) != len(set(names)):
            raise StageError("the expression has two groups of the same name")

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "regex", {"expression", "source"})
        return cls(needed(reader, "regex", body, "expression"), reader.text(body.get("source"), "regex.source"))

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset({self.source} if self.source else ())

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        text = entries.source(self.source)
        names = [name for name in re2.compile(self.expression).groupindex if self.wanted is None or name in self.wanted]
        if not names:
            return entries
        found = pc.extract_regex(text, self._groups(names))
        missed = pc.is_null(found)
        values = {}
        for name in names:
            value = found.field(name)
            # A row that does not match has a null struct, whose fields Arrow leaves empty instead of null.
            values[name] = pc.if_else(missed, None, value) if found.null_count else value
        return entries.with_extracted(values)

    def _groups(self, names: Sequence[str]) -> str:
        """The expression with only these groups: Arrow wants every group named, and each one costs."""
        return _GROUP.sub(lambda m: m[1] or (f"(?P<{m[2]}>" if m[2] in names else "(?:"), self.expression)


# An escape or a character class, which are left alone; or the beginning of a capturing group.
_GROUP = re.compile(r"(\\Q.*?(?:\\E|$)|\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\])|\((?:\?P?<(\w+)>|(?!\?))", re.DOTALL)


_JMES_NAME = re.compile(r'\s*(?:([A-Za-z_][A-Za-z0-9_]*)|"((?:[^"\\]|\\.)+)")')
_JMES_INDEX = re.compile(r"\[(\d+)\]")


def json_path(expression: str) -> str:
    """A JMESPath of names and indexes (`a.b`, `"x-y"[0]`) as a JSONPath. Raises StageError for anything beyond."""
    path, at = "$", 0
    while at < len(expression):
        index = _JMES_INDEX.match(expression, at)
        if index and path != "$":
            path += index[0]
            at = index.end()
            continue
        dot = path != "$"
        if dot and expression[at] != ".":
            break
        name = _JMES_NAME.match(expression, at + dot)
        if not name:
            break
        plain = name[1] or name[2].replace('\\"', '"').replace("\\\\", "\\")
        if '"' in plain:
            break
        path += f'."{plain}"'
        at = name.end()
    if path == "$" or at < len(expression):
        raise StageError(f"{expression!r} is beyond the names and indexes (a.b, a[0]) that the json stage knows so far")
    return path


class Json:
    """`json`: values of a JSON line become extracted values; other lines and missing keys keep what they had."""

    name: ClassVar[str] = "json"

    def __init__(self, expressions: Mapping[str, str | None], source: str | None = None) -> None:
        """`expressions` maps the new name to a path; without a path, the name itself is looked up."""
        if not expressions:
            raise StageError("it has no expressions")
        self.source = source
        self.paths = {name: json_path(path or name) for name, path in expressions.items()}
        self._connection: duckdb.DuckDBPyConnection | None = None

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "json", {"expressions", "source", "drop_malformed"})
        if reader.flag(body.get("drop_malformed"), "json.drop_malformed"):
            raise StageError("drop_malformed is not built yet")
        expressions = reader.texts(body.get("expressions"), "json.expressions")
        return cls(expressions, reader.text(body.get("source"), "json.source"))

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset({self.source} if self.source else ())

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        import duckdb

        if self._connection is None:
            self._connection = duckdb.connect(config={"threads": 1})
        table = pa.table({"text": entries.source(self.source)})
        self._connection.register("batch", table)
        paths = ", ".join("'" + path.replace("'", "''") + "'" for path in self.paths.values())
        # A list of paths is answered in one parse of the line.
        sql = f"SELECT CASE WHEN json_valid(text) THEN json_extract_string(text, [{paths}]) END AS v FROM batch"
        found = self._connection.sql(sql).to_arrow_table().column("v").combine_chunks()
        missed = pc.is_null(found)
        values = {}
        for number, name in enumerate(self.paths):
            value = pc.list_element(
                pc.if_else(missed, pa.scalar([None] * len(self.paths), found.type), found), number
            ).cast(pa.utf8())
            values[name] = value
        return entries.with_extracted(values)
