"""Pieces of a block as Arrow texts, without a loop over them."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.lines import NEWLINE


def line_bounds(block: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Where each line of a block that ends with a newline begins, and where its newline stands (int64)."""
    ends = np.flatnonzero(np.frombuffer(block, np.uint8) == NEWLINE)
    starts = np.empty_like(ends)
    if len(ends):
        starts[0] = 0
        starts[1:] = ends[:-1] + 1
    return starts, ends


def cut(block: bytes, starts: np.ndarray, ends: np.ndarray) -> pa.Array:
    """block[start:end] for each pair (utf8[N]); pairs in rising order that do not overlap, at characters' borders."""
    count = len(starts)
    if not count:
        return pa.array([], pa.utf8())
    # What is wanted and what lies between are the elements of one array over the whole block.
    offsets = np.empty(2 * count, np.int32)
    offsets[0::2], offsets[1::2] = starts, ends
    whole = pa.Array.from_buffers(pa.utf8(), 2 * count - 1, [None, pa.py_buffer(offsets), pa.py_buffer(block)])
    return whole.take(pa.array(np.arange(0, 2 * count, 2)))


def joined(texts: pa.Array, starts: np.ndarray, separator: str = "\n") -> pa.Array:
    """Neighbours joined: each group begins at one of `starts` (the first is 0) and ends before the next."""
    if len(starts) == len(texts):
        return texts
    offsets = np.append(starts, len(texts)).astype(np.int32)
    return pc.binary_join(pa.ListArray.from_arrays(pa.array(offsets), texts), separator)
