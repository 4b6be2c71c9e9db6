"""Promtail's positions file, taken over once: where its files were read to, so that nothing is collected twice.

The format: YAML, `positions: {path: "offset"}`; `journal-JOB` has a cursor, `cursor-KEY` a time, and for a compressed
file the offset counts its lines.
"""

from __future__ import annotations

import bz2
import itertools
import logging
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from atalaia.environment.errors import ConfigurationError, InputError
from atalaia.environment.yamlfile import Reader, read_text

log = logging.getLogger("atalaia.collector")


class Decompressor(Protocol):
    """What zlib and bz2 have in common."""

    def decompress(self, data: bytes, /) -> bytes:
        """What the next compressed bytes hold."""

    @property
    def eof(self) -> bool:
        """Whether the end of a stream was reached."""

    @property
    def unused_data(self) -> bytes:
        """What stands behind it: another stream."""


_CHUNK = 1 << 20
_BACK = 1 << 20  # bytes in which the beginning of a line is sought
_DECOMPRESSORS: Mapping[str, Callable[[], Decompressor]] = {
    ".gz": lambda: zlib.decompressobj(31),
    ".bz2": bz2.BZ2Decompressor,
    ".z": zlib.decompressobj,
}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a positions file holds: `offsets` by path, journal cursors by job, times (s) by the key of a source."""

    offsets: Mapping[str, int] = field(default_factory=dict)
    journals: Mapping[str, str] = field(default_factory=dict)
    cursors: Mapping[str, str] = field(default_factory=dict)


def parse(path: Path, text: str) -> Recorded:
    """A positions file's text. Raises InputError when it is none."""
    reader = Reader(path)
    try:
        found = reader.texts(
            reader.mapping(reader.load(text), "the positions file", {"positions"}).get("positions"), "positions"
        )
    except ConfigurationError as error:
        raise _damaged(path, error.problems[0].message) from error
    offsets, journals, cursors = {}, {}, {}
    for key, value in found.items():
        if key.startswith("journal-"):
            journals[key.removeprefix("journal-")] = value or ""
        elif key.startswith("cursor-"):
            cursors[key.removeprefix("cursor-")] = value or ""
        elif value is None or not (value.isascii() and value.isdigit()):
            reader.problems.clear()
            raise _damaged(path, f"the position of {key} is {value!r}")
        else:
            offsets[key] = int(value)
    if reader.problems:
        raise _damaged(path, reader.problems[0].message)
    return Recorded(offsets, journals, cursors)


def _damaged(path: Path, why: str) -> InputError:
    remedy = "correct it, move it away to read all files anew, or set positions.ignore_invalid_yaml: true"
    return InputError(f"Promtail's positions in {path} cannot be taken over: {why}", remedy)


def recorded(path: Path, ignore_invalid: bool = False) -> Recorded:
    """What Promtail recorded; nothing without a file. Raises InputError when it cannot be read or is damaged."""
    if not path.exists():
        return Recorded()
    try:
        return parse(path, read_text(path))
    except InputError as error:
        if not ignore_invalid:
            raise
        log.warning("event=promtail_positions_ignored file=%s reason=%r", path, error.what)
        return Recorded()


@dataclass(slots=True)
class Takeover:
    """Says where a file that begins to be read was left by Promtail. See Plan.begin_at."""

    recorded: Recorded
    taken: int = 0

    def __call__(self, path: str, size: int) -> int:
        """The first byte to read of a file of `size` bytes (uncompressed); 0 when nothing usable was recorded."""
        offset = self.recorded.offsets.get(path, 0)
        if not offset:
            return 0
        try:
            found = (
                _compressed(path, offset) if Path(path).suffix in _DECOMPRESSORS else _line_begin(path, offset, size)
            )
        except (OSError, EOFError, zlib.error) as error:
            log.warning("event=promtail_position_unusable file=%s offset=%d reason=%r", path, offset, str(error))
            return 0
        self.taken += 1
        log.info("event=promtail_position_taken file=%s offset=%d files=%d", path, found, self.taken)
        return found


def _line_begin(path: str, offset: int, size: int) -> int:
    """The offset, or the beginning of the line that it stands in. OSError when the file is shorter."""
    if offset > size:
        raise OSError(f"the file has {size} bytes: it is another one")
    start = max(0, offset - _BACK)
    with open(path, "rb") as file:
        before = os.pread(file.fileno(), offset - start, start)
    # The file may not have been written in UTF-8: the byte of a newline ends no line there, and is left alone.
    if b"\0" in before[-2:]:
        return offset
    found = before.rfind(b"\n") + 1
    return start + found if found or not start else offset


def _compressed(path: str, lines: int) -> int:
    """Where the line behind the first so many begins, in uncompressed bytes; the end when there are fewer."""
    before = 0
    for data in _decompressed(Path(path)):
        here = data.count(b"\n")
        if here >= lines:
            ends = [match.end() for match in itertools.islice(re.finditer(b"\n", data), lines)]
            return before + ends[-1]
        before += len(data)
        lines -= here
    return before


def _decompressed(path: Path) -> Iterator[bytes]:
    made = _DECOMPRESSORS[path.suffix]
    stream = made()
    with path.open("rb") as file:
        while data := file.read(_CHUNK):
            while data:
                yield stream.decompress(data)
                data = b""
                if stream.eof and stream.unused_data:
                    data, stream = stream.unused_data, made()
