"""Volumes: bytes of lines by labels, as Loki's index/volume adds them up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from atalaia.logql.literals import quote
from atalaia.logql.tree import Matcher, Selector
from atalaia.query.counting import Counts, Sums
from atalaia.store.streams import Selection


@dataclass(frozen=True, slots=True)
class Asked:
    """What volumes are of: `targets` are labels, none for those that the selector names; `limit` counts series.

    `by_labels`: a volume a label, else one a combination of their values.
    """

    selector: Selector
    targets: tuple[str, ...]
    by_labels: bool
    limit: int

    def selected(self) -> Selector:
        """The selector; of targets that it does not name, it demands that they are there."""
        named = {matcher.name for matcher in self.selector.matchers}
        demanded = tuple(Matcher(name, "=~", ".+") for name in self.targets if name not in named)
        return Selector((*self.selector.matchers, *demanded))


@dataclass(frozen=True, slots=True)
class Volume:
    """Bytes of a combination of labels (of a label: its name, and no value) in each cell where it has any."""

    labels: dict[str, str]
    cells: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def name(self) -> str:
        """As Loki writes a label set."""
        return f"{{{', '.join(f'{name}={quote(value)}' for name, value in self.labels.items())}}}"


def volumes(streams: Selection, ids: np.ndarray, counts: Counts, asked: Asked) -> list[Volume]:
    """The largest volumes of some streams, the largest first, then by name. `ids` ascending."""
    named = asked.targets or tuple(matcher.name for matcher in asked.selector.matchers)
    names = sorted(set(named or streams.names_of(ids)))
    at = np.searchsorted(ids, counts.streams)
    found: list[Volume] = []
    if asked.by_labels:
        for name in names:
            groups = np.where(_codes(streams, ids, name)[0] < 0, -1, 0)
            found += _summed([{name: ""}], groups[at], counts)
    else:
        labels, groups = _combinations(streams, ids, names)
        found = _summed(labels, groups[at], counts)
    found.sort(key=lambda one: (-sum(one.sizes), "".join(one.labels) if asked.by_labels else one.name))
    return found[: asked.limit]


def _codes(streams: Selection, ids: np.ndarray, name: str) -> tuple[np.ndarray, list[str]]:
    """A label of each stream as a position among its values; -1 for none."""
    values = streams.values_of(ids, name).dictionary_encode()
    return values.indices.fill_null(-1).to_numpy(zero_copy_only=False), values.dictionary.to_pylist()


def _combinations(streams: Selection, ids: np.ndarray, names: Sequence[str]) -> tuple[list[dict[str, str]], np.ndarray]:
    """The combinations of these labels that streams have, and the number of each stream's."""
    if not names:
        return [{}], np.zeros(len(ids), np.int64)
    columns = [_codes(streams, ids, name) for name in names]
    kinds, groups = np.unique(np.stack([codes for codes, _ in columns]), axis=1, return_inverse=True)
    labels = [
        {name: texts[code] for name, code, (_, texts) in zip(names, kind, columns, strict=True) if code >= 0}
        for kind in kinds.T.tolist()
    ]
    return labels, groups.reshape(-1)


def _summed(labels: Sequence[dict[str, str]], groups: np.ndarray, counts: Counts) -> list[Volume]:
    """A volume for each group (-1: none) of the counts' rows that has any."""
    kept = np.flatnonzero(groups >= 0)
    sums = Sums()
    sums.add(groups[kept], counts.cells[kept], counts.entries[kept], counts.line_bytes[kept])
    totals = sums.counts()
    if not len(totals.streams):
        return []
    numbers, starts = np.unique(totals.streams, return_index=True)
    return [
        Volume(labels[number], tuple(cells.tolist()), tuple(sizes.tolist()))
        for number, cells, sizes in zip(
            numbers.tolist(), np.split(totals.cells, starts[1:]), np.split(totals.line_bytes, starts[1:]), strict=True
        )
    ]
