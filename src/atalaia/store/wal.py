"""The write-ahead log: framed, checksummed records; a damaged tail is cut off and told, never replayed."""

from __future__ import annotations

import contextlib
import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from atalaia.environment.errors import AtalaiaError
from atalaia.environment.state import sync_directory
from atalaia.store.batch import Source

MAGIC = b"ATLWAL\0\1"
RECORD = b"ATWR"
_FRAME = struct.Struct("<4sIQIQ")  # magic, crc, seq, header length, payload length
_CHECKED_FROM = 8  # the CRC covers the frame behind itself


@dataclass(frozen=True, slots=True)
class Record:
    """One acknowledged push."""

    seq: int
    tenant: str
    sources: tuple[Source, ...]
    payload: bytes


@dataclass(frozen=True, slots=True)
class Cut:
    """A damaged tail: `lost` bytes behind `offset` of `path`."""

    path: Path
    offset: int
    lost: int


def frame(record: Record) -> tuple[bytes, bytes]:
    """The bytes of a record: frame with header, and payload (kept apart so that it is not copied)."""
    header = orjson.dumps({"tenant": record.tenant, "sources": [[s.id, s.start, s.end] for s in record.sources]})
    head = _FRAME.pack(RECORD, 0, record.seq, len(header), len(record.payload))
    crc = zlib.crc32(record.payload, zlib.crc32(header, zlib.crc32(head[_CHECKED_FROM:])))
    return _FRAME.pack(RECORD, crc, record.seq, len(header), len(record.payload)) + header, record.payload


class LogFile:
    """One open generation of the write-ahead log."""

    def __init__(self, path: Path) -> None:
        """Create `path`, durably, or go on at the end of an existing file (already `scan`ned)."""
        self.path = path
        new = not path.exists()
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o640)
        try:
            if new or os.fstat(self._descriptor).st_size < len(MAGIC):
                os.truncate(self._descriptor, 0)
                _write_all(self._descriptor, MAGIC)
                os.fsync(self._descriptor)
                sync_directory(path.parent)
            self.size = os.lseek(self._descriptor, 0, os.SEEK_END)
        except OSError:
            os.close(self._descriptor)
            raise
        self._torn = False  # whether bytes of a failed append may still stand behind `size`

    def append(self, records: Sequence[Record]) -> None:
        """Write the records and sync; on failure none of them is in the file. Raises OSError."""
        size = self.size
        if self._torn:
            self._back_to_size()
        try:
            for record in records:
                for part in frame(record):
                    _write_all(self._descriptor, part)
                    size += len(part)
            os.fdatasync(self._descriptor)
        except BaseException:
            self._torn = True
            self._back_to_size()
            raise
        self.size = size

    def _back_to_size(self) -> None:
        """Take back what a failed append wrote; until that works nothing else may be written."""
        os.ftruncate(self._descriptor, self.size)
        os.lseek(self._descriptor, self.size, os.SEEK_SET)
        self._torn = False

    def close(self) -> None:
        """Close the descriptor; the file stays."""
        os.close(self._descriptor)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def wal_bytes(directory: Path) -> int:
    """The bytes of all log files of a store."""
    size = 0
    for path in (directory / "wal").glob("*.wal"):
        with contextlib.suppress(FileNotFoundError):  # it is a segment now
            size += path.stat().st_size
    return size


def scan(path: Path) -> Iterator[Record | Cut]:
    """The records of a log file in order; a Cut last, when the tail is damaged.

    Raises AtalaiaError when the file is not a write-ahead log of this version.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        magic = file.read(len(MAGIC))
        if len(magic) < len(MAGIC) and MAGIC.startswith(magic):
            if magic:
                yield Cut(path, 0, size)
            return
        if magic != MAGIC:
            raise AtalaiaError(
                f"{path} is not a write-ahead log of version {MAGIC[-1]}",
                "open the store with the version of Atalaia that wrote it",
            )
        offset = len(MAGIC)
        while offset < size:
            record = _read(file.read(_FRAME.size), file, size - offset)
            if record is None:
                yield Cut(path, offset, size - offset)
                return
            yield record
            offset = file.tell()


def intact(path: Path, start: int = 0) -> Iterator[Record | Cut]:
    """As `scan`, but it goes on behind damage with the next whole record; a Cut tells of the bytes passed over."""
    data = path.read_bytes()
    file = io.BytesIO(data)
    offset = end = start or (len(MAGIC) if data.startswith(MAGIC) else 0)
    while 0 <= offset < len(data):
        file.seek(offset)
        record = _read(file.read(_FRAME.size), file, len(data) - offset)
        if record is None:
            offset = data.find(RECORD, offset + 1)
            continue
        if offset > end:
            yield Cut(path, end, offset - end)
        yield record
        offset = end = file.tell()
    if end < len(data):
        yield Cut(path, end, len(data) - end)


def _read(head: bytes, file: object, remaining: int) -> Record | None:
    if len(head) < _FRAME.size:
        return None
    magic, crc, seq, header_length, payload_length = _FRAME.unpack(head)
    # Lengths are believed only when they fit: a flipped bit must not ask for the machine's memory.
    if magic != RECORD or _FRAME.size + header_length + payload_length > remaining:
        return None
    header = file.read(header_length)  # type: ignore[attr-defined]  # a BufferedReader
    payload = file.read(payload_length)  # type: ignore[attr-defined]
    if zlib.crc32(payload, zlib.crc32(header, zlib.crc32(head[_CHECKED_FROM:]))) != crc:
        return None
    data = orjson.loads(header)
    return Record(seq, data["tenant"], tuple(Source(i, s, e) for i, s, e in data["sources"]), payload)


def cut_off(cut: Cut) -> None:
    """Truncate the file where its damage begins, durably."""
    descriptor = os.open(cut.path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, cut.offset)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
