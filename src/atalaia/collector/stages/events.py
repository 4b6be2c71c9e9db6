"""`eventlogmessage`: the `key: value` lines of a Windows event's message become extracted values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, column
from atalaia.collector.stages.stage import Build, Stage, StageError
from atalaia.collector.stages.values import put
from atalaia.environment.yamlfile import Node, Reader

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class EventLogMessage:
    """`eventlogmessage`: names that are none for a label are dropped or get a _ for each strange character.

    A name that is extracted already keeps its value, unless `overwrite_existing`; so does the first of equal names.
    """

    source: str = "message"
    drop_invalid_labels: bool = False
    overwrite_existing: bool = False
    name: ClassVar[str] = "eventlogmessage"

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.source):
            raise StageError(f"invalid label name: {self.source!r}")

    @classmethod
    def build(cls, reader: Reader, node: Node, build: Build) -> Stage:
        """See stage.Builder."""
        body = reader.mapping(node, "eventlogmessage", {"source", "drop_invalid_labels", "overwrite_existing"})
        source = reader.text(body.get("source"), "eventlogmessage.source")
        return cls(
            "message" if source is None else source,
            reader.flag(body.get("drop_invalid_labels"), "eventlogmessage.drop_invalid_labels"),
            reader.flag(body.get("overwrite_existing"), "eventlogmessage.overwrite_existing"),
        )

    def reads(self) -> None:
        """See Stage: whether a name is there already matters."""

    def __call__(self, entries: Entries) -> Entries:
        """See the class."""
        encoded = entries.source(self.source).dictionary_encode()
        read = [self._pairs(text) for text in encoded.dictionary.to_pylist()]
        codes = encoded.indices
        for name in dict.fromkeys(name for one in read for name in one):
            values = pa.array([one.get(name) for one in read], pa.utf8()).take(codes)
            wanted = pc.is_valid(values).to_numpy(zero_copy_only=False)
            if not self.overwrite_existing:
                before = column(entries.extracted.get(name), len(entries))
                wanted = wanted & pc.is_null(before).to_numpy(zero_copy_only=False)
            if np.any(wanted):
                entries = put(entries, {name: values}, wanted)
        return entries

    def _pairs(self, text: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in text.split("\r\n"):
            name, sign, value = line.partition(":")
            if not sign:
                continue
            if not _NAME.fullmatch(name):
                if self.drop_invalid_labels:
                    continue
                name = sanitised(name)
            if self.overwrite_existing or name not in found:
                found[name] = value.removeprefix(" ")
        return found


def sanitised(name: str) -> str:
    """A name in which each character that a label's name cannot have is a _."""
    if not name:
        return "_"
    return re.sub(r"[^A-Za-z0-9_]", "_", re.sub(r"^\d", "_", name))
