"""Structured metadata as a map, or partly as columns of its own for frequent keys. Whole columns at a time."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from atalaia.store.batch import METADATA

PREFIX = "meta."
MOST_KEYS = 32
SHARE = 16  # a key is frequent that one entry in so many has
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]{0,99}")


def frequent_keys(column: pa.MapArray) -> tuple[str, ...]:
    """The keys that deserve a column of their own, by the entries at hand."""
    _, keys, _ = _pairs(column)
    counts = sorted(
        ((item["counts"], item["values"]) for item in keys.value_counts().to_pylist()),
        key=lambda found: (-found[0], found[1]),
    )
    return tuple(sorted(key for n, key in counts[:MOST_KEYS] if n * SHARE >= len(column) and _NAME.fullmatch(key)))


def split(column: pa.MapArray, keys: tuple[str, ...]) -> tuple[pa.MapArray, dict[str, pa.Array]]:
    """The metadata without `keys`, and a column for each of them, null where an entry has it not."""
    rows, names, values = _pairs(column)
    codes = names.dictionary_encode()
    number = {name: code for code, name in enumerate(codes.dictionary.to_pylist())}
    indices = codes.indices.to_numpy()
    own: dict[str, pa.Array] = {}
    left = np.ones(len(indices), bool)
    for key in keys:
        at = np.flatnonzero(indices == number.get(key, -1))
        left[at] = False
        where = np.zeros(len(column), np.int64)
        missing = np.ones(len(column), bool)
        where[rows[at]], missing[rows[at]] = at, False
        own[key] = values.take(pa.array(where, mask=missing))
    kept = pa.array(np.flatnonzero(left))
    return _map(len(column), rows[left], names.take(kept), values.take(kept)), own


def join(rest: pa.MapArray, own: Mapping[str, pa.Array]) -> pa.MapArray:
    """The inverse of `split`."""
    rows, names, values = _pairs(rest)
    all_rows, all_names, all_values = [rows], [names], [values]
    for key, column in own.items():
        at = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False))
        all_rows.append(at)
        all_names.append(pa.repeat(pa.scalar(key, pa.utf8()), len(at)))
        all_values.append(column.take(pa.array(at)).cast(pa.utf8()))
    together = np.concatenate(all_rows)
    order = pa.array(np.argsort(together, kind="stable"))
    names, values = pa.concat_arrays(all_names), pa.concat_arrays(all_values)
    return _map(len(rest), np.sort(together), names.take(order), values.take(order))


def _pairs(column: pa.MapArray) -> tuple[np.ndarray, pa.Array, pa.Array]:
    """The row, the key and the value of each pair, in the order of rows."""
    offsets = column.offsets.to_numpy()
    first, count = int(offsets[0]), int(offsets[-1] - offsets[0])
    rows = np.repeat(np.arange(len(column)), np.diff(offsets))
    return rows, column.keys.slice(first, count), column.items.slice(first, count)


def _map(length: int, rows: np.ndarray, names: pa.Array, values: pa.Array) -> pa.MapArray:
    """A map column of pairs that are in the order of rows; null where there is none."""
    offsets = np.searchsorted(rows, np.arange(length + 1)).astype(np.int32)
    empty = np.append(np.diff(offsets) == 0, False)
    return pa.MapArray.from_arrays(pa.array(offsets, mask=empty), names, values).cast(METADATA)
