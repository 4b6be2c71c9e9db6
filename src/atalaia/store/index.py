"""The index of a compacted segment: what each row group holds, in an Arrow file that is mapped into memory."""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa

from atalaia.store import tokens
from atalaia.store.decide import Verdict

log = logging.getLogger("atalaia.store")
SCHEMA = pa.schema(
    [
        ("band", pa.int32()),
        ("rows", pa.int64()),
        ("min_ts", pa.int64()),
        ("max_ts", pa.int64()),
        ("streams", pa.list_(pa.int32())),
        ("templates", pa.list_(pa.int32())),
        ("tokens", pa.binary()),
    ]
)
MOST_STREAMS = 256


@dataclass(frozen=True, slots=True)
class Group:
    """One row group; `streams` and `templates` are None when there are too many."""

    band: int
    rows: int
    min_ts: int
    max_ts: int
    streams: Sequence[int] | None
    templates: Sequence[int] | None
    tokens: bytes


def encode(groups: Sequence[Group], templates: Mapping[str, str]) -> bytes:
    """The file: `templates` has the letters of each text, in the order of the positions that groups name."""
    listed = orjson.dumps(list(templates.items()))
    columns = [pa.array([getattr(group, field.name) for group in groups], field.type) for field in SCHEMA]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, SCHEMA.with_metadata({"templates": listed})) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=SCHEMA))
    return bytes(sink.getvalue())


class SegmentIndex:
    """A loaded index; arrays have one element a row group."""

    def __init__(self, buffer: pa.Buffer) -> None:
        """Raises ArrowInvalid or ValueError for bytes that are not an index."""
        with pa.ipc.open_file(buffer) as reader:
            batch = reader.get_batch(0)
            self.templates: dict[str, str] = dict(orjson.loads((reader.schema.metadata or {})[b"templates"]))
        self.band, self.rows, self.min_ts, self.max_ts = (batch.column(i).to_numpy() for i in range(4))
        self._streams, self._templates = batch.column(4), batch.column(5)
        filters = batch.column(6)
        self._offsets = np.frombuffer(filters.buffers()[1], np.int32)[: len(filters) + 1]
        self._filters = np.frombuffer(filters.buffers()[2] or b"", np.uint8)

    def __len__(self) -> int:
        return len(self.rows)

    def with_streams(self, ids: np.ndarray) -> np.ndarray:
        """Which groups may have entries of any of the streams `ids`."""
        return _any(self._streams, lambda found: np.asarray(np.isin(found, ids)))

    def verdicts(self, verdicts: Mapping[str, Verdict]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Which groups have lines that pass for certain, lines that may pass, and lines that do not, by template."""
        known = [verdicts[text] for text in self.templates]
        found = []
        for verdict in (Verdict.ALL, Verdict.SOME, Verdict.NONE):
            which = np.array([one is verdict for one in known], bool)
            groups = _any(self._templates, which.__getitem__)
            # Of a group without templates nothing is known: its lines may pass.
            found.append(groups if verdict is Verdict.SOME else groups & self.has_templates)
        return found[0], found[1], found[2]

    @property
    def has_templates(self) -> np.ndarray:
        """Which groups have templates at all."""
        found: np.ndarray = self._templates.is_valid().to_numpy(zero_copy_only=False)
        return found

    def with_tokens(self, wanted: Collection[str]) -> np.ndarray:
        """Which groups may have all of these variable tokens."""
        return tokens.may_hold(self._filters, self._offsets, [tokens.hash_of(token) for token in wanted])


def _any(lists: pa.ListArray, test: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Whether any element of each list passes `test` (an array of elements -> booleans); a null list passes."""
    passed = np.concatenate([[0], np.cumsum(test(lists.values.to_numpy()))])
    offsets = lists.offsets.to_numpy()
    missing: np.ndarray = lists.is_null().to_numpy(zero_copy_only=False)
    found: np.ndarray = (passed[offsets[1:]] > passed[offsets[:-1]]) | missing
    return found


class IndexFile:
    """An index on disk, checked and mapped when it is first asked for; one that is damaged is as good as none."""

    def __init__(self, path: Path, size: int, crc: int) -> None:
        self._path, self._size, self._crc = path, size, crc
        self._guard = threading.Lock()
        self._found: SegmentIndex | None = None
        self._tried = False

    def get(self) -> SegmentIndex | None:
        """The index, or None: then the whole segment must be read."""
        with self._guard:
            if not self._tried:
                self._tried = True
                try:
                    self._found = load(self._path, self._size, self._crc)
                except (OSError, ValueError, KeyError, pa.ArrowException) as error:
                    log.error("event=index_damaged file=%s reason=%r", self._path.name, str(error))
            return self._found


def load(path: Path, size: int, crc: int) -> SegmentIndex:
    """Raises ValueError when the file is not what the catalogue says, else as SegmentIndex does."""
    buffer = pa.memory_map(str(path)).read_buffer()
    if len(buffer) != size or zlib.crc32(buffer) != crc:
        raise ValueError("its size or its CRC-32 is not the catalogue's")
    return SegmentIndex(buffer)
