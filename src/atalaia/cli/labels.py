"""Which labels of an entry are shown, and how."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from atalaia.client.entries import LogEntry


@dataclass(frozen=True, slots=True)
class Shown:
    """`include`: these alone, from wherever they are; `exclude`: not these; `none`: no labels at all."""

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    none: bool = False

    def of(self, entry: LogEntry) -> dict[str, str]:
        """The labels of an entry that are shown: those of its stream, and what the query found in the line."""
        if self.none:
            return {}
        if self.include:
            every = {**entry.metadata, **entry.labels}
            return {name: every[name] for name in self.include if name in every and name not in self.exclude}
        return {n: v for n, v in {**entry.labels, **entry.parsed}.items() if n not in self.exclude}


class Common:
    """The labels that all entries so far have alike; they are told once, not with each line."""

    def __init__(self) -> None:
        self._common: dict[str, str] | None = None

    def narrow(self, labels: Iterable[Mapping[str, str]]) -> dict[str, str] | None:
        """Look at more entries' labels. What is common now, when that is something else than before."""
        before = self._common
        for some in labels:
            if self._common is None:
                self._common = dict(some)
            elif not self._common.items() <= some.items():
                self._common = {n: v for n, v in self._common.items() if some.get(n) == v}
        return self._common if self._common != before and (self._common or before) else None

    def rest(self, labels: Mapping[str, str]) -> dict[str, str]:
        """What is not common."""
        return {name: value for name, value in labels.items() if name not in (self._common or {})}


def spelled(labels: Mapping[str, str]) -> str:
    """Labels as LogQL spells them."""
    return "{" + ", ".join(f"{n}={json.dumps(labels[n], ensure_ascii=False)}" for n in sorted(labels)) + "}"
