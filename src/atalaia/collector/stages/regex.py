"""`regex`: named groups of an RE2 expression become extracted values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pyarrow.compute as pc
import re2

from atalaia.collector.entries import Entries
from atalaia.collector.stages.stage import Build, Stage, StageError, needed
from atalaia.collector.stages.values import source_of
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.checks import compile_quietly


def compiled(expression: str) -> Any:
    """An RE2 expression. Raises StageError."""
    try:
        return compile_quietly(expression)
    except re2.error as error:
        message = error.args[0].decode() if error.args and isinstance(error.args[0], bytes) else str(error)
        raise StageError(f"the expression is not RE2, could not compile it: {message}") from error


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
        compiled(self.expression)
        names = [m[2] for m in _GROUP.finditer(self.expression) if m[2]]
        if len(names) != len(set(names)):
            raise StageError("the expression has two groups of the same name")

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "regex", {"expression", "source"})
        return cls(needed(reader, "regex", body, "expression"), source_of(reader, "regex", body))

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset({self.source} if self.source else ())

    def narrowed(self, wanted: frozenset[str]) -> Stage:
        """See narrow.Narrowing."""
        return replace(self, wanted=wanted)

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
