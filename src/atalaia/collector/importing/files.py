"""What is named to be imported -> openable texts: files, folders, compressed files, members of archives, stdin.

Compression is told by the first bytes, not by the name. What cannot be read is told, and does not stop the others.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import shutil
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, BinaryIO, TypeAlias, cast

import pyarrow as pa

from atalaia.collector.reading.contents import LZ4, kind_of
from atalaia.environment.errors import InputError

_HEAD = 4096
_KEPT = 32 << 20  # bytes of an archive's member that are kept in memory, not in a temporary file
_SUFFIXES = {".gz", ".bz2", ".xz", ".zst", ".lz4"}
BROKEN = (EOFError, OSError, lzma.LZMAError, tarfile.TarError, zipfile.BadZipFile, pa.ArrowException)
"""What reading a damaged archive raises."""


@dataclass(frozen=True, slots=True)
class Given:
    """A text to import. `open` gives its uncompressed bytes from the beginning, as often as asked.

    `base`: its file name without folders and without a compression's suffix. `size`: of the (compressed) file.
    """

    name: str
    base: str
    modified: datetime
    size: int
    open: Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What cannot be imported, and why."""

    name: str
    problem: str


Found: TypeAlias = "Given | Unreadable"


class Texts:
    """All texts that `paths` name, folders with all that is in them, `-` for `stdin`, one after the other.

    `total`: bytes of all files (None: with standard input); `done`: those that were read, compressed as they are.
    """

    def __init__(self, paths: Sequence[str], stdin: IO[bytes]) -> None:
        """Raises InputError for what is not there."""
        missing = [path for path in paths if path != "-" and not os.path.exists(path)]
        if missing:
            raise InputError(
                f"there is no file {missing[0]}", "name log files, folders, archives, or - for standard input"
            )
        if list(paths).count("-") > 1:
            raise InputError("- is named twice: standard input can be read once")
        self._files = [file for path in paths for file in _within(path)]
        self._stdin = stdin
        self._finished = 0
        self._open: BinaryIO | None = None
        self.total = None if "-" in paths else sum(map(_size, self._files))

    @property
    def done(self) -> int:
        """See the class."""
        return self._finished + (self._open.tell() if self._open and not self._open.closed else 0)

    def __iter__(self) -> Iterator[Found]:
        for path in self._files:
            if path == "-":
                yield from _standard_input(self._stdin)
                continue
            yield from self._file(path)
            self._finished += _size(path)

    def _file(self, path: str) -> Iterator[Found]:
        try:
            if not os.path.isfile(path):
                yield Unreadable(path, "it is no file (a pipe, a socket or a device)")
                return
            with open(path, "rb") as self._open:
                yield from _stream(path, os.path.basename(path), self._open, os.path.getmtime(path))
        except BROKEN as error:
            yield Unreadable(path, getattr(error, "strerror", None) or str(error))


def _within(path: str) -> list[str]:
    if path == "-" or not os.path.isdir(path):
        return [path]
    return sorted(str(inside) for inside in Path(path).rglob("*") if inside.is_file())


def _size(path: str) -> int:
    try:
        return os.path.getsize(path)
    except OSError:
        return 0


def _standard_input(stdin: IO[bytes]) -> Iterator[Found]:
    with tempfile.TemporaryFile() as kept:
        # What comes through a pipe is read twice: once to know it again, once to import it.
        shutil.copyfileobj(stdin, kept, 1 << 20)
        yield from _stream("standard input", "stdin", kept, time.time())


def _stream(name: str, base: str, file: BinaryIO, modified: float) -> Iterator[Found]:
    """What is in an open, seekable file."""
    head = _at_start(file)
    size = file.seek(0, os.SEEK_END)
    when = datetime.fromtimestamp(modified, UTC)
    file.seek(0)
    if head.startswith(b"PK\x03\x04"):
        yield from _zip(name, file)
        return
    kind = "lz4" if head.startswith(LZ4) else kind_of(head)
    inner = head
    if kind is not None:
        try:
            inner = _decompressed(file, kind).read(_HEAD)
        except BROKEN as error:
            yield Unreadable(name, f"it is damaged: {error}")
            return
    if _is_tar(inner):
        file.seek(0)
        yield from _tar(name, _decompressed(file, kind) if kind else file)
        return
    plain = PurePosixPath(base)
    yield Given(
        name,
        plain.stem if kind and plain.suffix in _SUFFIXES else base,
        when,
        size,
        lambda: _reopened(file, kind),
    )


def _reopened(file: BinaryIO, kind: str | None) -> BinaryIO:
    file.seek(0)
    return _decompressed(file, kind) if kind else file


def _decompressed(file: BinaryIO, kind: str) -> BinaryIO:
    if kind == "gz":
        return cast("BinaryIO", gzip.GzipFile(fileobj=file, mode="rb"))
    if kind == "bz2":
        return cast("BinaryIO", bz2.BZ2File(file))
    if kind == "xz":
        return cast("BinaryIO", lzma.LZMAFile(file))
    stream = pa.CompressedInputStream(pa.PythonFile(_Lent(file), "r"), "zstd" if kind == "zst" else "lz4")
    return cast("BinaryIO", stream)


class _Lent:
    """A file that its borrower does not close."""

    closed = False

    def __init__(self, file: BinaryIO) -> None:
        self.read = file.read

    def close(self) -> None:
        """Nothing."""


def _tar(name: str, file: BinaryIO) -> Iterator[Found]:
    try:
        with tarfile.open(fileobj=file, mode="r|") as archive:
            for member in archive:
                if member.isfile():
                    inside = archive.extractfile(member)
                    assert inside is not None
                    yield from _member(name, member.name, cast("BinaryIO", inside), member.mtime)
    except BROKEN as error:
        yield Unreadable(name, f"the archive is damaged: {error}")


def _zip(name: str, file: BinaryIO) -> Iterator[Found]:
    try:
        with zipfile.ZipFile(file) as archive:
            for member in archive.infolist():
                if member.is_dir():
                    continue
                if member.flag_bits & 1:
                    yield Unreadable(f"{name}:{member.filename}", "it is encrypted; unpack it first")
                    continue
                with contextlib.closing(archive.open(member)) as inside:
                    when = datetime(*member.date_time, tzinfo=UTC).timestamp()
                    yield from _member(name, member.filename, cast("BinaryIO", inside), when)
    except (*BROKEN, ValueError, NotImplementedError) as error:
        yield Unreadable(name, f"the archive is damaged: {error}")


def _member(archive: str, name: str, inside: BinaryIO, modified: float) -> Iterator[Found]:
    """A member, put where it can be read twice."""
    with tempfile.SpooledTemporaryFile(_KEPT) as kept:
        shutil.copyfileobj(inside, kept, 1 << 20)
        yield from _stream(f"{archive}:{name}", PurePosixPath(name).name, cast("BinaryIO", kept), modified)


def _at_start(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(_HEAD)


def _is_tar(head: bytes) -> bool:
    return head[257:262] == b"ustar"
