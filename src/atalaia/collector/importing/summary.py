"""What an import found in a text, for people and programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from atalaia.collector.entries import column
from atalaia.collector.importing.recognise import NAMES
from atalaia.collector.importing.records import Block

_SAMPLE = 200  # characters


@dataclass(slots=True)
class Summary:
    """`kinds`: entries by container and kind; `samples`: a line of each; times in ns.

    `strange`: by container and recognised service, how many entries and one of them. `notes`: what else is to be told.
    """

    entries: int = 0
    kinds: Counter[tuple[str, str]] = field(default_factory=Counter)
    levels: Counter[str] = field(default_factory=Counter)
    first: int | None = None
    last: int | None = None
    samples: dict[tuple[str, str], str] = field(default_factory=dict)
    strange: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)
    notes: Counter[str] = field(default_factory=Counter)

    def add(self, block: Block) -> None:
        """Count the entries of a block."""
        entries, count = block.entries, len(block.entries)
        if not count:
            return
        self.entries += count
        low, high = int(entries.ts.min()), int(entries.ts.max())
        self.first = low if self.first is None else min(self.first, low)
        self.last = high if self.last is None else max(self.last, high)
        container = column(entries.labels.get("container"), count).dictionary_encode("encode")
        names = [name or "" for name in container.dictionary.to_pylist()]
        codes = container.indices.to_numpy(zero_copy_only=False).astype(np.int64) * len(NAMES) + block.kind
        found, at, counts = np.unique(codes, return_index=True, return_counts=True)
        for code, row, amount in zip(found.tolist(), at.tolist(), counts.tolist(), strict=True):
            key = names[code // len(NAMES)], NAMES[code % len(NAMES)]
            self.kinds[key] += amount
            self.samples.setdefault(key, _sample(entries.lines, row))
        self._count_levels(block)
        for row in np.flatnonzero([value is not None for value in block.strange]).tolist():
            key = names[container.indices[row].as_py()], str(block.strange[row])
            before, example = self.strange.get(key, (0, _sample(entries.lines, row)))
            self.strange[key] = before + 1, example

    def _count_levels(self, block: Block) -> None:
        for name in ("severity", "level"):
            value = block.entries.labels.get(name)
            if isinstance(value, pa.Array):
                for pair in value.drop_null().value_counts().to_pylist():
                    self.levels[pair["values"]] += pair["counts"]

    def data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "entries": self.entries,
            "first": self.first,
            "last": self.last,
            "levels": dict(self.levels),
            "found": [
                {"container": name or None, "format": kind, "entries": amount, "sample": self.samples[name, kind]}
                for (name, kind), amount in self.kinds.most_common()
            ],
            "recognised_otherwise": [
                {"container": name, "recognised": service, "entries": amount, "example": example}
                for (name, service), (amount, example) in self.strange.items()
            ],
            "notes": self.told(),
        }

    def told(self) -> list[str]:
        """The notes as sentences."""
        return [text.format(count=count) for text, count in self.notes.items()]


def _sample(lines: pa.Array, row: int) -> str:
    return str(lines[row].as_py()).split("\n", 1)[0][:_SAMPLE]
