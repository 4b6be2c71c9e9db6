"""A batch of entries on its way through the stages, and its form for the store."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.store.batch import METADATA, SCHEMA, canonical

LabelValue: TypeAlias = "str | pa.Array"


@dataclass(frozen=True, slots=True)
class Entries:
    """N entries: `lines` utf8[N], `ts` int64[N] in ns, `labels` and `extracted` one value for all or utf8[N] each.

    A null in a label means that this entry has no such label. `metadata` is map[N] or None.
    """

    lines: pa.Array
    ts: np.ndarray
    labels: Mapping[str, LabelValue]
    extracted: Mapping[str, LabelValue] = field(default_factory=dict)
    metadata: pa.Array | None = None

    def __len__(self) -> int:
        return len(self.lines)

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
        value = self.extracted.get(name)
        if value is None:
            return pa.nulls(len(self), pa.utf8())
        return pa.array([value] * len(self), pa.utf8()) if isinstance(value, str) else value

    def record_batch(self, external: Mapping[str, str] | None = None) -> pa.RecordBatch:
        """The batch in the store's transit schema; `external` labels are added to every stream."""
        labels = {**self.labels, **(external or {})}
        metadata = self.metadata if self.metadata is not None else pa.nulls(len(self), METADATA)
        return pa.RecordBatch.from_arrays(
            [pa.array(self.ts, pa.int64()), label_sets(labels, len(self)), self.lines, metadata],
            schema=SCHEMA,
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
