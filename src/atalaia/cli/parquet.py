"""Lines and samples as Parquet files, written piece by piece: what an interrupted command has written can be read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from atalaia.cli.interrupt import whole
from atalaia.client.entries import LogEntry

_TEXTS = pa.map_(pa.utf8(), pa.utf8())
_TIME = pa.timestamp("ns", "UTC")
LINES = pa.schema(
    [("timestamp", _TIME), ("ts", pa.int64()), ("labels", _TEXTS), ("line", pa.utf8()), ("metadata", _TEXTS)]
)
"""`ts` is the same as `timestamp`, in ns, which not every reader of Parquet keeps."""
SAMPLES = pa.schema([("timestamp", _TIME), ("labels", _TEXTS), ("value", pa.float64())])
_ROWS, _BYTES = 50_000, 32 << 20  # of a row group


class LinesToParquet:
    """A writer (output.Writer) of lines."""

    def __init__(self, path: Path) -> None:
        self._writer = pq.ParquetWriter(path, LINES, compression="zstd")
        self._waiting: list[LogEntry] = []
        self._size = 0

    def write(self, entries: Sequence[LogEntry]) -> None:
        """See Writer."""
        self._waiting += entries
        self._size += sum(len(entry.line) for entry in entries)
        if len(self._waiting) >= _ROWS or self._size >= _BYTES:
            self._flush()

    def _flush(self) -> None:
        some, self._waiting, self._size = self._waiting, [], 0
        ts = pa.array([entry.ts for entry in some], pa.int64())
        columns = [
            ts.cast(pa.timestamp("ns")).cast(_TIME),
            ts,
            _maps(entry.labels for entry in some),
            pa.array([entry.line for entry in some], pa.utf8()),
            _maps(entry.metadata for entry in some),
        ]
        with whole():
            self._writer.write_table(pa.Table.from_arrays(columns, schema=LINES))

    def close(self) -> None:
        """See Writer."""
        with whole():
            try:
                if self._waiting:
                    self._flush()
            finally:
                self._writer.close()


def write_samples(path: Path, samples: Sequence[tuple[int, Mapping[str, str], float]]) -> None:
    """A file of samples: time (ns), labels, value."""
    times = pa.array([ts for ts, _, _ in samples], pa.int64()).cast(pa.timestamp("ns")).cast(_TIME)
    values = pa.array([value for _, _, value in samples], pa.float64())
    columns = [times, _maps(labels for _, labels, _ in samples), values]
    pq.write_table(pa.Table.from_arrays(columns, schema=SAMPLES), path, compression="zstd")


def _maps(texts: Iterable[Mapping[str, str]]) -> pa.Array:
    return pa.array([list(some.items()) for some in texts], _TEXTS)
