"""Stages that make the line: output, pack, decolorize."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, LabelValue, column
from atalaia.collector.stages.gojson import quoted, quoted_column
from atalaia.collector.stages.stage import Build, Stage, needed
from atalaia.collector.stages.values import true
from atalaia.environment.yamlfile import Node, Reader
from atalaia.logql.formatting import COLOURS


@dataclass(frozen=True, slots=True)
class Output:
    """`output`: an extracted value becomes the line; without one the line stays."""

    source: str
    name: ClassVar[str] = "output"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        return cls(needed(reader, "output", reader.mapping(node, "output", {"source"}), "source"))

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset({self.source})

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        found = entries.source(self.source)
        return replace(entries, lines=pc.coalesce(found, entries.lines) if found.null_count else found)


@dataclass(frozen=True, slots=True)
class Pack:
    """`pack`: the line becomes a JSON object of some labels or extracted values, and itself as `_entry`.

    What is packed is a label no longer. `ingest_timestamp`: the entry gets the time of now, one ns more each.
    """

    labels: tuple[str, ...] = ()
    ingest_timestamp: bool = True
    name: ClassVar[str] = "pack"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "pack", {"labels", "ingest_timestamp"})
        listed = reader.sequence(body.get("labels"), "pack.labels")
        stamp = body.get("ingest_timestamp")
        return cls(
            tuple(text for one in listed if (text := reader.text(one, "pack.labels")) is not None),
            stamp is None or stamp.value is None or reader.flag(stamp, "pack.ingest_timestamp"),
        )

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset(self.labels)

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        size = len(entries)
        pieces: list[pa.Array | pa.Scalar] = [pa.scalar("{")]
        labels: dict[str, LabelValue] = dict(entries.labels)
        for name in sorted(set(self.labels) & entries.extracted.keys()):
            value = column(entries.extracted[name], size)
            member = pc.binary_join_element_wise(
                pa.scalar(f"{quoted(name)}:"), quoted_column(value), pa.scalar(","), ""
            )
            pieces.append(pc.fill_null(member, "") if member.null_count else member)
            if name in labels:
                if not value.null_count:
                    del labels[name]
                else:
                    labels[name] = pc.if_else(pc.is_null(value), column(labels[name], size), None)
        pieces += [pa.scalar('"_entry":'), quoted_column(entries.lines), pa.scalar("}")]
        ts = time.time_ns() + np.arange(size) if self.ingest_timestamp else entries.ts
        return replace(entries, lines=pc.binary_join_element_wise(*pieces, ""), labels=labels, ts=ts)


@dataclass(frozen=True, slots=True)
class Decolorize:
    """`decolorize`: the line without the escape sequences that colour it."""

    name: ClassVar[str] = "decolorize"

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        reader.mapping(node, "decolorize", set())
        return cls()

    def reads(self) -> frozenset[str]:
        """See Stage."""
        return frozenset()

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        coloured = true(pc.match_substring_regex(entries.lines, "[\x1b\u009b]"))
        if not coloured.any():
            return entries
        mask = pa.array(coloured)
        plain = pc.replace_substring_regex(entries.lines.filter(mask), COLOURS, "")
        return replace(entries, lines=pc.replace_with_mask(entries.lines, mask, plain))
