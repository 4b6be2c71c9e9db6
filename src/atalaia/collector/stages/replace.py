"""`replace`: what an expression captures becomes what a Go template makes of it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, column
from atalaia.collector.stages import captures
from atalaia.collector.stages.regex import compiled
from atalaia.collector.stages.stage import Build, Stage, needed
from atalaia.collector.stages.template import dictionaries, parsed, writer
from atalaia.collector.stages.values import fix, put, source_of, true
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.template import reads, sprig
from atalaia.logql.template.data import LabelMap
from atalaia.logql.template.nodes import Template as Tree
from atalaia.logql.template.parse import TemplateError

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
    _write: Callable[[Mapping[str, str]], str] = field(init=False, compare=False)
    _of_value: bool = field(init=False)  # the captured text alone decides what the template writes
    _marking: tuple[str, str] | None = field(init=False)
    name: ClassVar[str] = "replace"

    def __post_init__(self) -> None:
        object.__setattr__(self, "_compiled", compiled(self.expression))
        tree = parsed(self.replace)
        names = reads.names(tree)
        of_value = names is not None and names <= {"Value"} and sprig.VOLATILE.isdisjoint(reads.functions(tree))
        object.__setattr__(self, "_tree", tree)
        object.__setattr__(self, "_write", writer(tree))
        object.__setattr__(self, "_of_value", of_value)
        object.__setattr__(self, "_marking", captures.marking(self.expression) if of_value else None)

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
        matching = true(pc.match_substring_regex(text, self.expression))
        if not matching.any():
            return entries
        named = {name: pa.nulls(len(text), pa.utf8()) for name in self._compiled.groupindex}
        changed, done = text, np.zeros(len(text), bool)
        if self._marking is not None:
            changed, done = self._at_once(text, matching, named)
        rows = np.flatnonzero(matching & ~done)
        if len(rows):
            changed = self._one_by_one(entries, changed, rows, named)
        if self.source is None:
            entries = replace(entries, lines=changed)
        else:
            entries = replace(entries, extracted={**entries.extracted, self.source: changed})
        for name, values in named.items():
            entries = put(entries, {name: values}, true(pc.is_valid(values)))
        return entries

    def _at_once(self, text: pa.Array, matching: np.ndarray, named: dict[str, pa.Array]) -> tuple[pa.Array, np.ndarray]:
        """The new texts where all that is captured could be replaced at once, and the mask of these rows."""
        assert self._marking is not None
        chosen = text if matching.all() else text.filter(pa.array(matching))
        found = captures.cut(chosen, *self._marking)
        values = captures.captured(found).dictionary_encode()
        template = next(self._templates_of_value())
        try:
            made = pa.array([template(value) for value in values.dictionary.to_pylist()], pa.utf8()).take(
                values.indices
            )
        except TemplateError:
            return text, np.zeros(len(text), bool)
        done = matching.copy()
        done[matching] = found.rows
        mask = pa.array(done)
        first = np.cumsum(found.counts // 2) - found.counts // 2
        for name, number in self._compiled.groupindex.items():
            named[name] = pc.replace_with_mask(named[name], mask, made.take(pa.array(first + number - 1)))
        return pc.replace_with_mask(text, mask, captures.joined(found, made)), done

    def _one_by_one(self, entries: Entries, text: pa.Array, rows: np.ndarray, named: dict[str, pa.Array]) -> pa.Array:
        """The texts with new ones in some rows."""
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
        for name, values in found.items():
            named[name] = fix(named[name], rows, values)
        return fix(text, rows, results)

    def _templates(self, entries: Entries, rows: np.ndarray) -> Iterator[Callable[[str], str]]:
        """For each row what makes the replacement of a captured text."""
        names = reads.names(self._tree)
        if self._of_value:
            yield from itertools.islice(self._templates_of_value(), len(rows))
            return
        columns = {n: column(v, len(entries)) for n, v in entries.extracted.items() if names is None or n in names}
        for data in dictionaries(columns, rows):
            yield partial(self._run, data)

    def _templates_of_value(self) -> Iterator[Callable[[str], str]]:
        """The same where the captured text alone matters, without end."""
        known: dict[str, str] = {}

        def remembered(value: str) -> str:
            if value not in known:
                if len(known) > _REMEMBERED:
                    known.clear()
                known[value] = self._run({}, value)
            return known[value]

        return itertools.repeat(remembered)

    def _run(self, data: dict[str, str], value: str) -> str:
        return self._write(LabelMap({**data, "Value": value}))

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
