"""How much an Arrow IPC stream unpacks to, told from its messages before anything is unpacked.

A compressed buffer begins with its unpacked length (int64; -1: it is plain), and Arrow allocates what that says.
The message's flatbuffer tells where it stands: https://arrow.apache.org/docs/format/Columnar.html, Message.fbs.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pyarrow as pa

_V5 = 4  # of MetadataVersion; in V4 buffers could be compressed without the field `compression`
_KINDS = {2: "dictionary", 3: "rows"}  # of MessageHeader


@dataclass(frozen=True, slots=True)
class _Table:
    """A flatbuffer table: `at` is its place in `data`; its fields are found by the vtable before or behind it."""

    data: bytes
    at: int

    def field(self, number: int) -> int:
        """The place of a field, 0 when it is absent."""
        (back,) = struct.unpack_from("<i", self.data, self.at)
        size, *_ = struct.unpack_from("<H", self.data, self.at - back)
        if 4 + 2 * number >= size:
            return 0
        (offset,) = struct.unpack_from("<H", self.data, self.at - back + 4 + 2 * number)
        return self.at + offset if offset else 0

    def scalar(self, number: int, form: str) -> int:
        """A number, 0 when it is absent."""
        place = self.field(number)
        return int(struct.unpack_from(form, self.data, place)[0]) if place else 0

    def target(self, number: int) -> int:
        """The place that an offset field points to. Raises ValueError when it is absent."""
        place = self.field(number)
        if not place:
            raise ValueError("a message lacks a field")
        return place + int(struct.unpack_from("<I", self.data, place)[0])


def unpacked_size(stream: bytes | memoryview) -> int:
    """Bytes of all buffers once unpacked; a dictionary counts again for every batch of rows that has it.

    Raises ValueError, struct.error or pa.ArrowException when the stream is none.
    """
    total = held = 0
    dictionaries: dict[int, int] = {}
    for message in pa.ipc.MessageReader.open_stream(pa.py_buffer(stream)):
        data = message.metadata.to_pybytes()
        root = _Table(data, struct.unpack_from("<I", data)[0])
        if root.scalar(0, "<h") < _V5:
            raise ValueError("Arrow metadata of a version before V5")
        kind = _KINDS.get(root.scalar(1, "<B"))
        if kind is None:
            continue
        header = _Table(data, root.target(2))
        if kind == "dictionary":
            size = _size(_Table(data, header.target(1)), message.body)
            key, is_delta = header.scalar(0, "<q"), header.scalar(2, "<?")
            # Arrow makes a whole new dictionary of the old one and a delta.
            before = dictionaries.get(key, 0)
            dictionaries[key] = size + (before if is_delta else 0)
            held += dictionaries[key] - before
            total += dictionaries[key]
        else:
            total += _size(header, message.body) + held
    return total


def _size(batch: _Table, body: pa.Buffer) -> int:
    place = batch.target(2)
    (count,) = struct.unpack_from("<I", batch.data, place)
    compressed = bool(batch.field(3))
    total = 0
    for offset, length in struct.iter_unpack("<qq", batch.data[place + 4 : place + 4 + 16 * count]):
        declared = struct.unpack_from("<q", body, offset)[0] if compressed and length else -1
        if length < 0 or declared < -1:
            raise ValueError("a buffer with a negative length")
        total += length if declared == -1 else declared
    return total
