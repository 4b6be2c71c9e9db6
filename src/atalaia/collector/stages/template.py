"""`template`: an extracted value made by a Go template of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, column
from atalaia.collector.stages.stage import Build, Stage, StageError, needed
from atalaia.collector.stages.values import put
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.template import reads, sprig
from atalaia.logql.template.nodes import Template as Tree
from atalaia.logql.template.parse import TemplateError, parse
from atalaia.logql.template.run import run
from atalaia.logql.template.straight import straight

_NOTHING = "<no value>"  # what Go writes for what is not there


def parsed(text: str) -> Tree:
    """A template that may call Promtail's functions. Raises StageError."""
    try:
        return parse(text, sprig.FUNCTIONS)
    except ValueError as error:
        raise StageError(f"the template cannot be read: {error}") from error


def writer(tree: Tree) -> Callable[[Mapping[str, str]], str]:
    """A template as a function of its data, which raises TemplateError."""
    return straight(tree, sprig.FUNCTIONS) or (lambda data: run(tree, data, sprig.FUNCTIONS))


def combinations(columns: Mapping[str, pa.Array], size: int) -> tuple[list[dict[str, str]], np.ndarray]:
    """The different rows of some columns, without their nulls; and for each of the N rows which of them it is."""
    codes = np.zeros(size, np.int64)
    most = 1
    for values in columns.values():
        encoded = values.dictionary_encode()
        number = pc.fill_null(encoded.indices, len(encoded.dictionary)).to_numpy(zero_copy_only=False)
        codes = codes * (len(encoded.dictionary) + 1) + number
        most *= len(encoded.dictionary) + 1
        if most > size:  # what occurs is numbered anew, so that numbers stay small
            occurring, codes = np.unique(codes, return_inverse=True)
            most = len(occurring)
    _, rows, codes = np.unique(codes, return_index=True, return_inverse=True)
    return dictionaries(columns, rows), codes


def dictionaries(columns: Mapping[str, pa.Array], rows: np.ndarray) -> list[dict[str, str]]:
    """Some rows (int64[M]), each without its nulls."""
    texts = [values.take(pa.array(rows)).to_pylist() for values in columns.values()]
    if not texts:
        return [{} for _ in rows]
    return [
        {name: value for name, value in zip(columns, row, strict=True) if value is not None}
        for row in zip(*texts, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Template:
    """`template`: `source` becomes what the template writes; nothing written takes it away, a fault leaves it.

    A template sees all extracted values by name, `source` as `.Value` too, and the line as `.Entry`.
    """

    source: str
    template: str
    _tree: Tree = field(init=False)
    name: ClassVar[str] = "template"

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tree", parsed(self.template))

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "template", {"source", "template"})
        return cls(needed(reader, "template", body, "source"), reader.text(body.get("template"), "template") or "")

    def reads(self) -> frozenset[str] | None:
        """See Stage."""
        found = reads.names(self._tree)
        return None if found is None else (found - {"Entry"}) | {self.source}

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        names = reads.names(self._tree)
        columns = self._columns(entries, names)
        parts = reads.plain(self._tree)
        if parts is not None:
            made = _joined(parts, columns, len(entries))
            fine = np.ones(len(entries), bool)
        else:
            volatile = not sprig.VOLATILE.isdisjoint(reads.functions(self._tree))
            if volatile:
                codes = np.arange(len(entries))
                rows = dictionaries(columns, codes)
            else:
                rows, codes = combinations(columns, len(entries))
            write = writer(self._tree)
            texts = [_written(write, data) for data in rows]
            made = pa.array(texts, pa.utf8()).take(pa.array(codes))
            fine = np.array([text is not None for text in texts], bool)[codes]
        empty = pc.equal(pc.binary_length(made), 0)
        return put(entries, {self.source: pc.if_else(pc.fill_null(empty, False), None, made)}, fine)

    def _columns(self, entries: Entries, names: frozenset[str] | None) -> dict[str, pa.Array]:
        found = entries.extracted if names is None else {n: v for n, v in entries.extracted.items() if n in names}
        columns = {name: column(value, len(entries)) for name, value in found.items()}
        if names is None or "Value" in names:
            value = entries.source(self.source)
            columns["Value"] = pc.coalesce(value, columns["Value"]) if "Value" in columns else value
        if names is None or "Entry" in names:
            columns["Entry"] = entries.lines
        return columns


def _written(write: Callable[[Mapping[str, str]], str], data: Mapping[str, str]) -> str | None:
    try:
        return write(data)
    except TemplateError:
        return None


def _joined(parts: list[tuple[str, bool]], columns: Mapping[str, pa.Array], size: int) -> pa.Array:
    if not any(is_name for _, is_name in parts):
        return pa.repeat("".join(text for text, _ in parts), size)
    joined = []
    for text, is_name in parts:
        found = columns.get(text) if is_name else None
        joined.append(pa.scalar(_NOTHING if is_name else text) if found is None else pc.fill_null(found, _NOTHING))
    if all(isinstance(part, pa.Scalar) for part in joined):
        return pa.repeat("".join(part.as_py() for part in joined), size)
    return pc.binary_join_element_wise(*joined, "")
