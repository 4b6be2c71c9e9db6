"""Members of a physical backup -> files, chunk by chunk, by several threads, straight to their places."""

from __future__ import annotations

import bisect
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

from atalaia.backup.model import Progress, advance
from atalaia.backup.physical.base import BASE, MANIFEST
from atalaia.backup.physical.journal import Journal
from atalaia.backup.physical.shares import Shares
from atalaia.backup.physical.tar import File, Layout
from atalaia.backup.vault.chunks import SIZE
from atalaia.backup.vault.local import LocalPlace
from atalaia.backup.vault.manifest import Chunk
from atalaia.backup.vault.place import Damaged
from atalaia.backup.vault.reader import Reader
from atalaia.environment.errors import AtalaiaError
from atalaia.runtime.accounts import Account

_HOLE = bytes(64 << 10)
_PER_JOB_AFAR = 4  # fetches at once for each job when the repository answers over a network
# What a server reads of a database that nobody connects to; all else of it may be zeros.
_NEEDED = re.compile(r"(?:^|/)(PG_VERSION|pg_filenode\.map)$")
_DATABASE = re.compile(r"(?:^base|^PG_[^/]*)/(\d+)/")


@dataclass(frozen=True, slots=True)
class Room:
    """Where the files go: `data` must be empty and ours; one folder a tablespace is made below `tablespaces`.

    They belong to `account` in the end. Of databases with an OID in `without` there are sparse files of zeros.
    """

    data: Path
    tablespaces: Path
    account: Account | None
    without: frozenset[int] = frozenset()

    def folder(self, member: str) -> Path:
        """Where a member's files go."""
        return self.data if member == BASE else self.tablespaces / member.removesuffix(".tar")

    def left_out(self, name: str) -> bool:
        """Whether a file is to be zeros."""
        found = _DATABASE.match(name) if self.without else None
        return bool(found and int(found[1]) in self.without and not _NEEDED.search(name))


@dataclass(frozen=True, slots=True)
class _Work:
    """One chunk to write: the `number`-th of a stream, whose files begin at `starts`."""

    stream: str
    number: int
    chunk: Chunk
    begin: int
    folder: Path
    files: list[File]
    starts: list[int]

    def pieces(self) -> Iterator[tuple[File, int, int]]:
        """Files that have bytes in it; where those begin and end in the stream."""
        end = self.begin + self.chunk.size
        first = max(0, bisect.bisect_right(self.starts, self.begin) - 1)
        for file in self.files[first:]:
            if file.offset >= end:
                return
            begin, stop = max(file.offset, self.begin), min(file.offset + file.size, end)
            if begin < stop:
                yield file, begin, stop


def lay(reader: Reader, room: Room, jobs: int, journal: Journal, progress: Progress) -> int:
    """Write all files of a backup, those that the journal does not know done; bytes of them.

    Raises Damaged, PlaceError, and AtalaiaError when they cannot be written.
    """
    try:
        works = list(_works(reader, room))
        folders = [room.data, *(room.folder(name) for name in _tars(reader) if name != BASE)]
        todo = [work for work in works if work.number not in journal.has(work.stream)]
        _write_all(reader, todo, room.account, jobs, journal, progress)
        manifest = room.data / MANIFEST
        manifest.write_bytes(reader.read(MANIFEST))
        manifest.chmod(0o600)
        _give(manifest, room.account)
        for folder in folders:
            _link(room, folder)
            # Last: as long as we write there as root, nobody else may put a link in our way.
            _give(folder, room.account)
    except OSError as error:
        raise AtalaiaError(
            f"{reader.manifest.identifier} could not be written to {room.data}: {error.strerror or error}",
            "make room there, or restore to another directory",
        ) from error
    return sum(work.chunk.size for work in works)


def layout(reader: Reader, member: str) -> Layout:
    """What is in a tar member. Raises Damaged."""
    return Layout.of(reader.members[member].facts, f"{reader.manifest.identifier}: {member}")


def _tars(reader: Reader) -> list[str]:
    return [name for name in reader.members if name.endswith(".tar")]


def _works(reader: Reader, room: Room) -> Iterator[_Work]:
    """Make directories, and files without content; the chunks of the others."""
    for name in _tars(reader):
        seen, folder = layout(reader, name), room.folder(name)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for below, mode in sorted(seen.folders):
            (folder / below).mkdir(mode=mode, parents=True, exist_ok=True)
            _give(folder / below, room.account)
        files = [file for file in seen.files if file.size and not room.left_out(file.name)]
        filled = set(files)
        for file in seen.files:
            if file not in filled:
                os.close(_begin(folder / file.name, file, room.account))
        starts = [file.offset for file in files]
        chunks = reader.members[name].chunks
        begins = accumulate((chunk.size for chunk in chunks), initial=0)
        for number, (chunk, begin) in enumerate(zip(chunks, begins, strict=False)):
            work = _Work(f"{reader.manifest.identifier}/{name}", number, chunk, begin, folder, files, starts)
            if any(True for _ in work.pieces()):
                yield work


def _begin(path: Path, file: File, account: Account | None) -> int:
    """Open a file with its size and owner, still without content. Again, it does no harm."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, file.mode)
    try:
        os.ftruncate(descriptor, file.size)
        if account and os.geteuid() == 0:
            os.fchown(descriptor, account.uid, account.gid)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _write_all(
    reader: Reader, todo: list[_Work], account: Account | None, jobs: int, journal: Journal, progress: Progress
) -> None:
    total = sum(work.chunk.size for work in todo)
    workers = jobs if isinstance(reader.place, LocalPlace) else jobs * _PER_JOB_AFAR
    shares, lock, done = Shares(len(todo), workers), threading.Lock(), 0

    def work_on(worker: int) -> None:
        nonlocal done
        buffer = bytearray(SIZE)
        while (number := shares.take(worker)) is not None:
            work = todo[number]
            try:
                reader.chunk_into(work.chunk, buffer)
                _write(buffer, work, account)
            except BaseException:
                shares.stop()  # the others end after what they have in hand
                raise
            journal.mark(work.stream, work.number)
            with lock:
                done += work.chunk.size
                advance(progress, "restoring files", done, total)

    with ThreadPoolExecutor(workers, thread_name_prefix="restore") as pool:
        running = [pool.submit(work_on, worker) for worker in range(workers)]
        try:
            for one in running:
                one.result()
        except BaseException:
            shares.stop()
            raise


def _write(raw: bytearray, work: _Work, account: Account | None) -> None:
    view = memoryview(raw)
    for file, begin, stop in work.pieces():
        # Where a file system is slow in making files, threads do it side by side; a later chunk may come first.
        descriptor = _begin(work.folder / file.name, file, account)
        try:
            for first, last in _runs(raw, begin - work.begin, stop - work.begin):
                at = work.begin + first - file.offset
                while first < last:
                    written = os.pwrite(descriptor, view[first:last], at)
                    first, at = first + written, at + written
        finally:
            os.close(descriptor)


def _runs(raw: bytes | bytearray, begin: int, stop: int) -> Iterator[tuple[int, int]]:
    """What lies between blocks of zeros, which stay holes."""
    first = begin
    for at in range(begin, stop - len(_HOLE) + 1, len(_HOLE)):
        if raw.startswith(_HOLE, at):
            if first < at:
                yield first, at
            first = at + len(_HOLE)
    if first < stop:
        yield first, stop


def _link(room: Room, folder: Path) -> None:
    """Lead pg_tblspc/OID to the tablespace's folder."""
    if folder == room.data:
        return
    link = room.data / "pg_tblspc" / folder.name
    if not link.is_symlink():
        link.symlink_to(folder.resolve())
        if room.account and os.geteuid() == 0:
            os.lchown(link, room.account.uid, room.account.gid)


def _give(path: Path, account: Account | None) -> None:
    if account and os.geteuid() == 0:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def check_names(reader: Reader) -> None:
    """Raise Damaged unless the backup has all its members."""
    details = reader.details["details"]
    wanted = {BASE, MANIFEST, *(place["member"] for place in details["tablespaces"])}
    if missing := wanted - set(reader.members):
        raise Damaged(f"{reader.manifest.identifier} lacks {', '.join(sorted(missing))}", "restore another backup")
