"""What a segment has of each stream: rows, bytes of lines, range of timestamps, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MOST = 10_000
"""Streams; of a segment with more nothing is kept, and only its entries tell."""
_WIDTHS = ("<i4", "<i4", "<i8", "<i8", "<i8")


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Arrays of one length, in the order of `streams` (ascending). Times in ns since 1970, both ends included."""

    streams: np.ndarray
    rows: np.ndarray
    line_bytes: np.ndarray
    min_ts: np.ndarray
    max_ts: np.ndarray

    def __len__(self) -> int:
        return len(self.streams)

    def encode(self) -> bytes:
        """The column `held` of the catalogue."""
        columns = (self.streams, self.rows, self.line_bytes, self.min_ts, self.max_ts)
        return b"".join(column.astype(width).tobytes() for column, width in zip(columns, _WIDTHS, strict=True))

    @classmethod
    def decode(cls, data: bytes) -> Held:
        """The inverse of `encode`. Raises ValueError for bytes of another length."""
        count, rest = divmod(len(data), sum(np.dtype(width).itemsize for width in _WIDTHS))
        if rest:
            raise ValueError(f"{len(data)} bytes are not the streams of a segment")
        columns, at = [], 0
        for width in _WIDTHS:
            columns.append(np.frombuffer(data, width, count, at))
            at += columns[-1].nbytes
        return cls(*columns)

    @classmethod
    def of(cls, streams: np.ndarray, ts: np.ndarray, line_bytes: np.ndarray) -> Held:
        """Of entries: one element each, in any order."""
        ids, inverse, rows = np.unique(streams, return_inverse=True, return_counts=True)
        lows, highs = np.full(len(ids), np.iinfo(np.int64).max), np.full(len(ids), np.iinfo(np.int64).min)
        np.minimum.at(lows, inverse, ts)
        np.maximum.at(highs, inverse, ts)
        sizes = np.bincount(inverse, line_bytes, len(ids)).astype(np.int64)
        return cls(ids.astype(np.int32), rows.astype(np.int32), sizes, lows, highs)

    @classmethod
    def union(cls, parts: Sequence[Held]) -> Held:
        """What several have together."""
        streams = np.concatenate([part.streams for part in parts])
        ids, inverse = np.unique(streams, return_inverse=True)
        whole = cls(
            ids.astype(np.int32),
            np.zeros(len(ids), np.int32),
            np.zeros(len(ids), np.int64),
            np.full(len(ids), np.iinfo(np.int64).max),
            np.full(len(ids), np.iinfo(np.int64).min),
        )
        np.add.at(whole.rows, inverse, np.concatenate([part.rows for part in parts]))
        np.add.at(whole.line_bytes, inverse, np.concatenate([part.line_bytes for part in parts]))
        np.minimum.at(whole.min_ts, inverse, np.concatenate([part.min_ts for part in parts]))
        np.maximum.at(whole.max_ts, inverse, np.concatenate([part.max_ts for part in parts]))
        return whole

    def within(self, start: int, end: int) -> np.ndarray:
        """Which of the streams may have entries in [start, end) ns."""
        return (self.max_ts >= start) & (self.min_ts < end)
