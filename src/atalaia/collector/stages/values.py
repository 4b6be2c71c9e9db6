"""What stages that take text apart have in common: masks, settings, and putting back what was found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.entries import Entries, column
from atalaia.collector.stages.stage import StageError
from atalaia.environment.yamlfile import Node, Reader


def true(values: pa.Array) -> np.ndarray:
    """A boolean column as a mask bool[N]; null is false."""
    found: np.ndarray = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return found


def source_of(reader: Reader, stage: str, body: Mapping[str, Node]) -> str | None:
    """The optional `source` of a stage. Raises StageError for an empty one, as Promtail does."""
    found = reader.text(body.get("source"), f"{stage}.source")
    if found == "":
        raise StageError("empty source")
    return found


def put(entries: Entries, found: Mapping[str, pa.Array], rows: np.ndarray) -> Entries:
    """The entries with these extracted values in the rows of the mask bool[N]; a null takes away what was there."""
    if rows.all():
        return replace(entries, extracted={**entries.extracted, **found})
    mask = pa.array(rows)
    merged = dict(entries.extracted)
    for name, values in found.items():
        merged[name] = pc.if_else(mask, values, column(merged.get(name), len(entries)))
    return replace(entries, extracted=merged)


def fix(values: pa.Array, rows: np.ndarray, texts: list[str | None]) -> pa.Array:
    """The column with other texts in the rows (int64[M], ascending, one text each)."""
    mask = np.zeros(len(values), bool)
    mask[rows] = True
    return pc.replace_with_mask(values, pa.array(mask), pa.array(texts, pa.utf8()))


def buffers(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int32[N+1] and bytes of a utf8 column; a null has no bytes."""
    if not len(values):
        return np.zeros(1, np.int32), np.zeros(0, np.uint8)
    if values.null_count:
        values = pc.fill_null(values, "")
    _, offsets, data = values.buffers()
    found = np.frombuffer(offsets, np.int32)[values.offset : values.offset + len(values) + 1]
    return found, np.frombuffer(data, np.uint8) if data is not None and len(data) else np.zeros(0, np.uint8)


def sliced(data: np.ndarray, low: np.ndarray, high: np.ndarray, rows: np.ndarray | None = None) -> pa.Array:
    """Parts of bytes, from `low` to `high` each, ascending and none overlapping, as a utf8 column.

    With `rows`, a mask bool[N], they are the values of these rows, and the others are null.
    """
    # Every second value of this array is a part, those between are the gaps.
    borders = np.zeros(2 * len(low) + 1, np.int32)
    borders[0:-1:2], borders[1::2] = low, high
    borders[-1] = high[-1] if len(high) else 0
    parts = pa.Array.from_buffers(
        pa.utf8(), 2 * len(low), [None, pa.py_buffer(borders), pa.py_buffer(np.ascontiguousarray(data))]
    )
    if rows is None or rows.all():
        return parts.take(pa.array(np.arange(0, 2 * len(low), 2)))
    place = np.zeros(len(rows), np.int64)
    place[rows] = np.arange(0, 2 * len(low), 2)
    return parts.take(pa.array(place, mask=~rows))
