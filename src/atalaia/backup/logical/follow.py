"""Reads the files of a `pg_dump -Fd` while its workers write them, so that they never rest on a disk.

Where pg_dump creates a file it opens what bears its name already. In parallel mode it writes toc.dat after its
workers were started and before they get work: toc.dat is made a pipe, the workers are stopped until the table of
contents is known, and the largest tables' files are made pipes too. Smaller files and large objects are taken when no
process of the dump has them open any more, and removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import resource
import select
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from atalaia.backup.logical import toc as tocs
from atalaia.backup.logical.streams import Blocks, Outputs, Stream, Text
from atalaia.backup.logical.toc import Toc
from atalaia.backup.programs import Program, children
from atalaia.environment.errors import AtalaiaError

BLOBS = "blobs"
_PIPES = 512
_PIPE_SIZE = 1 << 20
_LOOK = 0.05  # s, between looks at files that are no pipes
_PAUSE = 0.001  # s; a reader that comes for every 4 KiB would take the writers' processor
_WORTH = 256 << 10


@dataclass(slots=True)
class Followed:
    """What a dump of a database wrote: texts of tables by file, and large objects (size and digest by OID)."""

    toc: bytes = b""
    texts: dict[str, Text] = field(default_factory=dict)
    objects: dict[int, tuple[int, str]] = field(default_factory=dict)


class Follower:
    """Follows one pg_dump that writes into `folder`, which does not exist before. `sizes` tells tables' by OID."""

    def __init__(
        self,
        folder: Path,
        jobs: int,
        outputs: Outputs,
        sizes: Callable[[], dict[int, int]],
        advance: Callable[[int], None],
    ) -> None:
        self.found = Followed()
        self._folder, self._jobs, self._outputs, self._sizes, self._advance = folder, jobs, outputs, sizes, advance
        self._memory = Blocks()
        self._streams: dict[int, tuple[str, Stream]] = {}
        self._blobs: Stream | None = None
        self._left = True  # whether some files are no pipes

    def follow(self, program: Program) -> Followed:
        """Read until the program has ended; whether it ended well is the caller's to ask. Raises AtalaiaError."""
        ended = os.pidfd_open(program.process.pid)
        epoll = select.epoll()
        epoll.register(ended, select.EPOLLIN)
        try:
            self._gate(program, epoll)
            self._read(program, epoll, ended)
        finally:
            for descriptor in self._streams:
                os.close(descriptor)
            epoll.close()
            os.close(ended)
        return self.found

    def _gate(self, program: Program, epoll: select.epoll) -> None:
        """Learn the table of contents before any data is written, and lay the pipes."""
        pid = program.process.pid
        while not self._folder.exists():
            if program.process.poll() is not None:
                return
            time.sleep(0.005)
        pipe = self._folder / tocs.NAME
        if self._jobs < 2:
            return  # alone it writes the contents last
        try:
            os.mkfifo(pipe, 0o600)
        except FileExistsError:
            return  # we came too late: then all are files
        while len(workers := children(pid, "pg_dump")) < self._jobs:
            if program.process.poll() is not None:
                return
            time.sleep(0.01)
        # The leader waits for a reader of toc.dat: no worker has been given work.
        for worker in workers:
            os.kill(worker, signal.SIGSTOP)
        self.found.toc = _whole(pipe, program)
        pipe.unlink()
        contents = tocs.parse(self.found.toc)
        self._lay(contents, epoll)
        for worker in workers:
            os.kill(worker, signal.SIGCONT)

    def _lay(self, contents: Toc, epoll: select.epoll) -> None:
        entries = contents.data
        room = min(_PIPES, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2)
        if len(entries) > room:
            sizes = self._sizes()
            entries = tuple(sorted(entries, key=lambda entry: -sizes.get(entry.oid, 0)))[:room]
        for entry in entries:
            os.mkfifo(self._folder / entry.file, 0o600)
            descriptor = os.open(self._folder / entry.file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            self._streams[descriptor] = (entry.file, Stream(self._outputs(entry.file), self._memory))
            epoll.register(descriptor, select.EPOLLIN)
        self._left = len(entries) < len(contents.data) or any(entry.kind == "BLOBS" for entry in contents.entries)

    def _read(self, program: Program, epoll: select.epoll, ended: int) -> None:
        looked = time.monotonic()
        running = True
        while running or self._busy(epoll):
            taken = 0
            for descriptor, event in epoll.poll(_LOOK):
                if descriptor == ended:
                    running = False
                    epoll.unregister(ended)
                elif event & select.EPOLLIN:
                    taken += self._take(descriptor)
                else:
                    self._end(descriptor, epoll)
            self._advance(taken)
            if self._left and time.monotonic() - looked > _LOOK:
                self._look(program.process.pid)
                looked = time.monotonic()
            if running and taken < _WORTH:
                time.sleep(_PAUSE)
        self._rest()

    def _busy(self, epoll: select.epoll) -> bool:
        """Whether a pipe still has something although its writers have gone."""
        return any(descriptor in self._streams for descriptor, _ in epoll.poll(0))

    def _take(self, descriptor: int) -> int:
        stream = self._streams[descriptor][1]
        if not stream.size:
            with contextlib.suppress(OSError):  # it is only slower
                fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
        return stream.read(descriptor)

    def _end(self, descriptor: int, epoll: select.epoll) -> None:
        name, stream = self._streams.pop(descriptor)
        epoll.unregister(descriptor)
        os.close(descriptor)
        (self._folder / name).unlink()
        self.found.texts[name] = stream.finish(name)

    def _look(self, pid: int) -> None:
        """Take the files that have been written to their end."""
        # First the list, then what is open: what is listed and not open has been closed.
        names = [entry.name for entry in os.scandir(self._folder) if entry.is_file(follow_symlinks=False)]
        opened = _opened({pid, *children(pid, "pg_dump")})
        for name in names:
            if name.endswith(".dat") and name != tocs.NAME and str(self._folder / name) not in opened:
                self._file(name)

    def _file(self, name: str) -> None:
        path = self._folder / name
        if name.startswith("blob_"):
            if self._blobs is None:
                self._blobs = Stream(self._outputs(BLOBS), self._memory)
            size, digest = self._blobs.append(path)
            oid = int(name.removeprefix("blob_").removesuffix(".dat"))
            self.found.objects[oid] = (size, digest)
            self._advance(size)
        else:
            stream = Stream(self._outputs(name), self._memory)
            stream.append(path)
            self._advance(stream.size)
            if name.startswith(BLOBS) or name == tocs.NAME:
                stream.finish(name, table=False)
            else:
                self.found.texts[name] = stream.finish(name)
        path.unlink()

    def _rest(self) -> None:
        """The program has ended: everything that is left is whole, or the program has failed."""
        if not self._folder.is_dir():
            return
        if (path := self._folder / tocs.NAME).is_file():
            self.found.toc = path.read_bytes()
            path.unlink()
        for name in sorted(entry.name for entry in os.scandir(self._folder) if entry.is_file(follow_symlinks=False)):
            self._file(name)
        if self._blobs:
            self._blobs.finish(
                BLOBS, table=False, facts={"objects": [[oid, *one] for oid, one in self.found.objects.items()]}
            )
            self._blobs = None


def _whole(pipe: Path, program: Program) -> bytes:
    """All that is written into a pipe. Raises AtalaiaError when nobody writes."""
    descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    parts: list[bytes] = []
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    try:
        while True:
            if not (ready := poller.poll(1000)):
                if program.process.poll() is not None:
                    raise AtalaiaError(f"{program.name} ended before it wrote what is in it: {program.words()}")
                continue
            if not ready[0][1] & select.POLLIN:
                return b"".join(parts)
            parts.append(os.read(descriptor, 1 << 20))
    except OSError as error:
        if error.errno != errno.EAGAIN:
            raise
        return b"".join(parts)
    finally:
        os.close(descriptor)


def _opened(pids: set[int]) -> set[str]:
    found = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for link in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    found.add(str(link.readlink()))
    return found
