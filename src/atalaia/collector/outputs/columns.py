"""Columns of bytes put together without a loop over the rows: numbers as varints, texts beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# A varint takes one byte more from each of these on.
_STEPS = np.array([1 << (7 * size) for size in range(1, 10)], np.uint64)


@dataclass(frozen=True, slots=True)
class Stream:
    """The rows `start` to `end` of a grouped table, all with the label set `labels` (canonical JSON)."""

    labels: str
    start: int
    end: int


def grouped(table: pa.Table) -> tuple[pa.Table, list[Stream]]:
    """The rows in one chunk, stream by stream, each stream's in their order; and where each stream is.

    `table` is of the store's transit schema, with one dictionary.
    """
    table = table.combine_chunks()
    if not len(table):
        return table, []
    labels = table.column("labels").chunk(0)
    codes = labels.indices.to_numpy()
    if (codes[1:] < codes[:-1]).any():
        order = np.argsort(codes, kind="stable")
        table, codes = table.take(pa.array(order)).combine_chunks(), codes[order]
    borders = [0, *(np.flatnonzero(np.diff(codes)) + 1).tolist(), len(codes)]
    texts = labels.dictionary
    return table, [Stream(texts[int(codes[start])].as_py(), start, end) for start, end in pairwise(borders)]


def lengths(column: pa.Array) -> np.ndarray:
    """The bytes of each text: int64[N]."""
    found: np.ndarray = pc.binary_length(column).to_numpy(zero_copy_only=False)
    return found.astype(np.int64)


def varint_sizes(values: np.ndarray) -> np.ndarray:
    """How many bytes each value (0 to 2^64-1) takes as a protobuf varint: int64[N]."""
    return np.searchsorted(_STEPS, values.astype(np.uint64), "right").astype(np.int64) + 1


def packed(pieces: Sequence[int | np.ndarray], count: int) -> pa.Array:
    """binary[count]: in each row the pieces one after the other; a number is a byte, an array[count] holds varints."""
    sizes = [np.ones(count, np.int64) if isinstance(piece, int) else varint_sizes(piece) for piece in pieces]
    offsets = np.zeros(count + 1, np.int32)
    np.cumsum(np.sum(sizes, axis=0), out=offsets[1:])
    data = np.empty(int(offsets[-1]), np.uint8)
    at = offsets[:-1].astype(np.int64)
    for piece, size in zip(pieces, sizes, strict=True):
        if isinstance(piece, int):
            data[at] = piece
        else:
            _put_varints(data, at, piece.astype(np.uint64), size)
        at = at + size
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _put_varints(data: np.ndarray, at: np.ndarray, values: np.ndarray, size: np.ndarray) -> None:
    for place in range(int(size.max(initial=0))):
        more = np.where(size > place + 1, 0x80, 0).astype(np.uint64)
        byte = ((values & 0x7F) | more).astype(np.uint8)
        if place < size.min():
            data[at + place] = byte
        else:
            rows = size > place
            data[(at + place)[rows]] = byte[rows]
        values = values >> np.uint64(7)


def joined(columns: Sequence[pa.Array]) -> pa.Array:
    """binary[N]: the columns' bytes beside each other."""
    return pc.binary_join_element_wise(*(column.cast(pa.binary()) for column in columns), pa.scalar(b"", pa.binary()))


def offsets_of(column: pa.Array) -> np.ndarray:
    """Where each row of a binary column begins in `data_of`, and the end of the last: int32[N+1]."""
    return np.frombuffer(column.buffers()[1], np.int32)[column.offset : column.offset + len(column) + 1]


def data_of(column: pa.Array) -> memoryview:
    """The bytes of a binary column, row after row."""
    data = column.buffers()[2]
    return memoryview(data if data is not None else b"")


def regrouped(column: pa.Array, starts: np.ndarray) -> pa.Array:
    """binary[len(starts) - 1]: in each row, the bytes of the rows `starts[i]` to `starts[i + 1]` of `column`."""
    offsets = np.ascontiguousarray(offsets_of(column)[starts], np.int32)
    return pa.Array.from_buffers(
        pa.binary(), len(starts) - 1, [None, pa.py_buffer(offsets), pa.py_buffer(data_of(column))]
    )
