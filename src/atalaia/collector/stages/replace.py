"""`replace`: what an expression captures becomes what a Go template makes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, column
from atalaia.collector.stages.regex import compiled
from atalaia.collector.stages.stage import Build, Stage, needed
from atalaia.collector.stages.template import dictionaries, parsed
from atalaia.collector.stages.values import fix, put, source_of, true
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.template import reads, sprig
from atalaia.logql.template.data import LabelMap
from atalaia.logql.template.nodes import Template as Tree
from atalaia.logql.template.parse import TemplateError
from atalaia.logql.template.run import run

_REMEMBERED = 10_000  # captured texts whose replacement is kept during a batch


@dataclass(frozen=True, slots=True)
class Replace:
    """`replace`: each group of each match is replaced by what the template writes; `.Value` is what it captured.

    The result goes to where the text was, to `source` or the line. Named groups become extracted values: what the
    first match's group was replaced by. As in Promtail, a group that begins where the one before ended, or inside of
    it, stays as it is. A text without a match, or for which the template has a fault, stays.
    """

    expression: str
    source: str | None = None
    replace: str = ""
    _compiled: Any = field(init=False, compare=False)
    _tree: Tree = field(init=False)
    name: ClassVar[str] = "replace"

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", compiled(self.expression))
        object.__setattr__(self, "_tree", parsed(self.replace))

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "replace", {"expression", "source", "replace"})
        return cls(
            needed(reader, "replace", body, "expression"),
            source_of(reader, "replace", body),
            reader.text(body.get("replace"), "replace.replace") or "",
        )

    def reads(self) -> frozenset[str] | None:
        """See Stage."""
        found = reads.names(self._tree)
        return None if found is None else found | ({self.source} if self.source else set())

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        text = entries.source(self.source)
        rows = np.flatnonzero(true(pc.match_substring_regex(text, self.expression)))
        if not len(rows):
            return entries
        groups = self._compiled.groupindex
        results: list[str | None] = []
        found: dict[str, list[str | None]] = {name: [] for name in groups}
        chosen = text.take(pa.array(rows)).to_pylist()
        for line, template in zip(chosen, self._templates(entries, rows), strict=True):
            try:
                result, captured, first = self._replaced(line, template)
            except TemplateError:
                result, captured, first = line, {}, None
            results.append(result)
            for name, number in groups.items():
                found[name].append(captured.get(first[number] or "") if first else None)
        changed = fix(text, rows, results)
        if self.source is None:
            entries = replace(entries, lines=changed)
        else:
            entries = replace(entries, extracted={**entries.extracted, self.source: changed})
        for name, values in found.items():
            values_column = fix(pa.nulls(len(entries), pa.utf8()), rows, values)
            entries = put(entries, {name: values_column}, true(pc.is_valid(values_column)))
        return entries

    def _templates(self, entries: Entries, rows: np.ndarray) -> Iterator[Callable[[str], str]]:
        """For each row what makes the replacement of a captured text."""
        names = reads.names(self._tree)
        if all(isinstance(node, str) for node in self._tree.nodes):
            constant = "".join(node for node in self._tree.nodes if isinstance(node, str))
            for _ in rows:
                yield lambda _: constant
            return
        if names is not None and names <= {"Value"} and sprig.VOLATILE.isdisjoint(reads.functions(self._tree)):
            known: dict[str, str] = {}

            def remembered(value: str) -> str:
                if value not in known:
                    if len(known) > _REMEMBERED:
                        known.clear()
                    known[value] = run(self._tree, LabelMap({"Value": value}), sprig.FUNCTIONS)
                return known[value]

            for _ in rows:
                yield remembered
            return
        columns = {n: column(v, len(entries)) for n, v in entries.extracted.items() if names is None or n in names}
        for data in dictionaries(columns, rows):
            yield lambda value, data=data: run(self._tree, LabelMap({**data, "Value": value}), sprig.FUNCTIONS)  # type: ignore[misc]

    def _replaced(self, text: str, template: Callable[[str], str]) -> tuple[str, dict[str, str], Any]:
        """The new text, what each captured text was replaced by, and the first match."""
        parts, at, end = [], 0, -1
        captured: dict[str, str] = {}
        first = None
        for match in self._compiled.finditer(text):
            if match.end() <= end:
                continue  # an empty match behind another one
            end = match.end()
            first = first or match
            for number in range(1, self._compiled.groups + 1):
                begin = match.start(number)
                if begin < 0:
                    continue
                value = match[number]
                made = captured[value] = template(value)
                if at == 0 or at < begin:
                    parts += [text[at:begin], made]
                    at = match.end(number)
        return "".join([*parts, text[at:]]), captured, first
