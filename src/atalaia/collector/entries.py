"""A batch of entries on its way through the stages, and its form for the store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.meters import Meters
from atalaia.store.batch import METADATA, SCHEMA, canonical

LabelValue: TypeAlias = "str | pa.Array"


@dataclass(frozen=True, slots=True)
class Effect:
    """What a stage does besides changing entries (counting, mostly), once it is known which lines are taken for good.

    `lines` int64[M]: the last line of each entry concerned. `apply` gets the meters and a mask bool[M] of those taken.
    """

    lines: np.ndarray
    apply: Callable[[Meters, np.ndarray], None]


@dataclass(frozen=True, slots=True)
class Entries:
    """N entries: `lines` utf8[N], `ts` int64[N] in ns.

    `labels`, `extracted`, `metadata`: one value for all or utf8[N] each; a null means that this entry has none.
    `first`, `last` int64[N] (None: 0, 1, 2 …): the lines of the block that an entry was made of; a stage that drops or
    joins entries keeps them right. An entry that waits for further lines, and whose last line is before line `flush`,
    is complete. `held`: the first line of the block that a stage wants to see again, together with all that follows;
    entries of those lines are then discarded.
    """

    lines: pa.Array
    ts: np.ndarray
    labels: Mapping[str, LabelValue]
    extracted: Mapping[str, LabelValue] = field(default_factory=dict)
    metadata: Mapping[str, LabelValue] = field(default_factory=dict)
    first: np.ndarray | None = None
    last: np.ndarray | None = None
    flush: int = 0
    held: int | None = None
    effects: tuple[Effect, ...] = ()

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def first_lines(self) -> np.ndarray:
        """`first`, always an array."""
        return np.arange(len(self)) if self.first is None else self.first

    @property
    def last_lines(self) -> np.ndarray:
        """`last`, always an array."""
        return np.arange(len(self)) if self.last is None else self.last

    def take(self, rows: np.ndarray) -> Entries:
        """The entries of these row numbers (int64[M]), in this order."""
        index = pa.array(rows)

        def taken(values: Mapping[str, LabelValue]) -> dict[str, LabelValue]:
            return {name: value if isinstance(value, str) else value.take(index) for name, value in values.items()}

        return replace(
            self,
            lines=self.lines.take(index),
            ts=self.ts[rows],
            labels=taken(self.labels),
            extracted=taken(self.extracted),
            metadata=taken(self.metadata),
            first=self.first_lines[rows],
            last=self.last_lines[rows],
        )

    def filter(self, kept: np.ndarray) -> Entries:
        """The entries where the mask bool[N] is true."""
        return self if kept.all() else self.take(np.flatnonzero(kept))

    def hold(self, line: int) -> Entries:
        """The same entries; what comes from `line` of the block on is to be read again."""
        return replace(self, held=line if self.held is None else min(line, self.held))

    def later(self, lines: np.ndarray, apply: Callable[[Meters, np.ndarray], None]) -> Entries:
        """The same entries with an effect (see Effect) on top."""
        return replace(self, effects=(*self.effects, Effect(lines, apply)))

    def with_labels(self, labels: Mapping[str, LabelValue]) -> Entries:
        """The same entries with these labels added or replaced."""
        return replace(self, labels={**self.labels, **labels})

    def with_extracted(self, values: Mapping[str, LabelValue]) -> Entries:
        """The same entries with extracted values added or replaced where they are not null."""
        merged = dict(self.extracted)
        for name, value in values.items():
            before = merged.get(name)
            if before is not None and isinstance(value, pa.Array) and value.null_count:
                value = pc.coalesce(value, before)
            merged[name] = value
        return replace(self, extracted=merged)

    def source(self, name: str | None) -> pa.Array:
        """The text that a stage works on: an extracted value, or the line."""
        if name is None:
            return self.lines
        return column(self.extracted.get(name), len(self))

    def record_batch(self, external: Mapping[str, str] | None = None) -> pa.RecordBatch:
        """The batch in the store's transit schema; `external` labels are added to every stream."""
        labels = {**self.labels, **(external or {})}
        metadata = metadata_map({name: column(value, len(self)) for name, value in self.metadata.items()}, len(self))
        return pa.RecordBatch.from_arrays(
            [pa.array(self.ts, pa.int64()), label_sets(labels, len(self)), self.lines, metadata],
            schema=SCHEMA,
        )


def column(value: LabelValue | None, count: int) -> pa.Array:
    """A label's or an extracted value as utf8[count]; nulls for None."""
    if value is None:
        return pa.nulls(count, pa.utf8())
    return pa.array([value] * count, pa.utf8()) if isinstance(value, str) else value


def concat(parts: Sequence[Entries]) -> Entries:
    """Entries one after the other, of one or more parts; what one part lacks is null there.

    `first` and `last` are kept as they are: parts of different blocks must be numbered by their maker. `flush` is the
    first part's, `held` the least, effects are those of all.
    """
    if len(parts) == 1:
        return parts[0]

    def joined(values: Sequence[Mapping[str, LabelValue]]) -> dict[str, LabelValue]:
        names = dict.fromkeys(name for one in values for name in one)
        whole: dict[str, LabelValue] = {}
        for name in names:
            found = [one.get(name) for one in values]
            same = isinstance(found[0], str) and all(value == found[0] for value in found if isinstance(value, str))
            if same and all(isinstance(value, str) for value in found):
                whole[name] = found[0] or ""
            else:
                arrays = [column(value, len(part)) for value, part in zip(found, parts, strict=True)]
                whole[name] = pa.concat_arrays(arrays)
        return whole

    holds = [part.held for part in parts if part.held is not None]
    return replace(
        parts[0],
        lines=pa.concat_arrays([part.lines for part in parts]),
        ts=np.concatenate([part.ts for part in parts]),
        labels=joined([part.labels for part in parts]),
        extracted=joined([part.extracted for part in parts]),
        metadata=joined([part.metadata for part in parts]),
        first=np.concatenate([part.first_lines for part in parts]),
        last=np.concatenate([part.last_lines for part in parts]),
        held=min(holds) if holds else None,
        effects=tuple(effect for part in parts for effect in part.effects),
    )


def label_sets(labels: Mapping[str, LabelValue], count: int) -> pa.DictionaryArray:
    """One canonical label set a row, dictionary-encoded; Python runs once a distinct set, not once a row."""
    constant = {name: value for name, value in labels.items() if isinstance(value, str)}
    varying = {name: value.dictionary_encode() for name, value in labels.items() if not isinstance(value, str)}
    codes = np.zeros(count, np.int64)
    most = 1
    for encoded in varying.values():
        column = pc.fill_null(encoded.indices, len(encoded.dictionary)).to_numpy(zero_copy_only=False)
        if most > (1 << 62) // (len(encoded.dictionary) + 1):
            # Many labels with many values would not fit 64 bits: what occurs is numbered anew.
            occurring, codes = np.unique(codes, return_inverse=True)
            most = len(occurring)
        codes = codes * (len(encoded.dictionary) + 1) + column
        most *= len(encoded.dictionary) + 1
    if most <= count:
        rows = np.full(most, -1)
        rows[codes] = np.arange(count)  # any row of a code will do as its example
        occurs = rows >= 0
        rows, indices = rows[occurs], (np.cumsum(occurs) - 1)[codes]
    else:
        _, rows, indices = np.unique(codes, return_index=True, return_inverse=True)
    texts = []
    for row in rows:
        found = dict(constant)
        for name, encoded in varying.items():
            if encoded.indices[int(row)].is_valid:
                found[name] = encoded[int(row)].as_py()
        texts.append(canonical(found))
    return pa.DictionaryArray.from_arrays(pa.array(indices.astype(np.int32)), pa.array(texts, pa.utf8()))


def metadata_map(columns: Mapping[str, pa.Array], count: int) -> pa.Array:
    """A map[N] with the non-null values of utf8 `columns`, built without touching a row from Python."""
    if not columns or not count:
        return pa.nulls(count, METADATA)
    names = list(columns)
    values = pa.concat_arrays([columns[name].cast(pa.utf8()) for name in names])
    # Rows are interleaved: the values of a row stand together, in the order of the columns.
    order = (np.arange(count)[:, None] + np.arange(len(names))[None, :] * count).ravel()
    present = pc.is_valid(values).to_numpy(zero_copy_only=False)[order]
    taken = values.take(pa.array(order[present]))
    keys = pa.DictionaryArray.from_arrays(
        pa.array((order[present] // count).astype(np.int32)), pa.array(names, pa.utf8())
    ).cast(pa.utf8())
    offsets = np.zeros(count + 1, np.int32)
    np.cumsum(present.reshape(count, len(names)).sum(axis=1), out=offsets[1:])
    return pa.MapArray.from_arrays(pa.array(offsets), keys, taken)
