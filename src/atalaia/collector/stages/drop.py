"""The stage that drops entries by what they are: drop."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries
from atalaia.collector.meters import Meters
from atalaia.collector.stages.stage import Build, Stage, StageError
from atalaia.collector.stages.streams import duration_of, expression_of, size_of
from atalaia.environment.yamlfile import Node, Reader


def dropped(entries: Entries, rows: np.ndarray, reason: str) -> Entries:
    """The entries without those of the mask bool[N], which are counted under the reason."""
    if not rows.any():
        return entries

    def count(meters: Meters, mask: np.ndarray) -> None:
        meters.count("logentry_dropped_lines_total", int(mask.sum()), reason=reason)

    return entries.later(entries.last_lines[rows], count).filter(~rows)


@dataclass(frozen=True, slots=True)
class Drop:
    """`drop`: entries that meet every condition there is are dropped.

    With `sources` alone: all of them were extracted. With `value` or `expression` (RE2): what was extracted of them,
    joined by `separator`, is or matches that; without sources, the line matches. `older_than` in ns before now,
    `longer_than` in bytes of the line.
    """

    sources: tuple[str, ...] = ()
    separator: str = ";"
    value: str | None = None
    expression: str | None = None
    older_than: int | None = None
    longer_than: int | None = None
    reason: str = "drop_stage"
    name: ClassVar[str] = "drop"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        known = {"source", "separator", "value", "expression", "older_than", "longer_than", "drop_counter_reason"}
        body = reader.mapping(node, "drop", known)
        source = body.get("source")
        listed = source is not None and isinstance(source.value, list)
        nodes = reader.sequence(source, "source") if listed else [source] if source is not None else []
        texts = tuple(text for one in nodes if (text := reader.text(one, "source")) is not None)
        if listed and not texts:
            raise StageError("its source is an empty list, which every entry would match")
        expression = reader.text(body.get("expression"), "expression")
        separator = reader.text(body.get("separator"), "separator")
        return cls(
            texts,
            ";" if separator is None else separator,
            reader.text(body.get("value"), "value"),
            None if expression is None else expression_of(expression),
            duration_of(reader, body.get("older_than"), "older_than"),
            size_of(reader, body.get("longer_than"), "longer_than"),
            reader.text(body.get("drop_counter_reason"), "drop_counter_reason") or "drop_stage",
        )

    def __post_init__(self) -> None:
        if self.value is not None and not self.sources:
            raise StageError("a value needs a source that it is compared with")
        if self.value is not None and self.expression is not None:
            raise StageError("value and expression exclude each other")
        if not self.sources and self.expression is None and self.older_than is None and self.longer_than is None:
            raise StageError("it needs at least one of source, expression, older_than and longer_than")

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset(self.sources)

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        if not len(entries):
            return entries
        rows = np.ones(len(entries), bool)
        if self.longer_than is not None:
            rows &= pc.binary_length(entries.lines).to_numpy(zero_copy_only=False) > self.longer_than
        if self.older_than is not None:
            rows &= entries.ts < time.time_ns() - self.older_than
        tested = self._tested(entries)
        if tested is not None and rows.any():
            rows &= tested.to_numpy(zero_copy_only=False)
        return dropped(entries, rows, self.reason)

    def _tested(self, entries: Entries) -> pa.Array | None:
        """Whether sources and texts are as wanted; None: nothing is."""
        found = [entries.source(source) for source in self.sources]
        if self.value is None and self.expression is None:
            there = [pc.is_valid(one) for one in found]
            while len(there) > 1:
                there[:2] = [pc.and_(there[0], there[1])]
            return there[0] if there else None
        text = entries.lines
        if found:
            # Arrow (26.0.1) gives no row at all where there is nothing to join.
            found[0] = pc.if_else(pc.is_null(pc.coalesce(*found)), "", found[0])
            text = pc.binary_join_element_wise(*found, self.separator, null_handling="skip")
        if self.expression is None:
            return pc.equal(text, self.value)
        return pc.match_substring_regex(text, self.expression)
