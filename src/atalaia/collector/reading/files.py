"""Which files are read: found by their globs, known again after rotation and restart, given up when they are done."""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from atalaia.collector.plan import Job, Plan, Target
from atalaia.collector.reading import identity as identities
from atalaia.collector.reading.identity import Known
from atalaia.collector.reading.positions import Positions
from atalaia.collector.reading.tables import Planned
from atalaia.collector.reading.tail import Tail, looks_binary

log = logging.getLogger("atalaia.collector")
RECORD = 32 << 20  # bytes of a spool's record, which is never cut: its line is, where entries are prepared
_GRACE = 3.0  # seconds without its name after which a last line without a newline is taken as whole
_WATCH = 600.0  # seconds that a renamed file is still watched, since its writer may keep it open; a deleted one: _GRACE
_REFRESH = 86_400  # seconds after which an open file's `seen` is renewed, so that a quiet file is not forgotten


class Files:
    """The open files of a plan. Used by the reading thread alone."""

    def __init__(self, plan: Plan) -> None:
        """Take up the files that the positions file knows. Raises InputError when that is damaged."""
        self._plan = plan
        self._jobs = {job.name: job for job in plan.jobs}
        self._positions = Positions(plan.positions)
        self.tails: dict[tuple[int, int], Tail] = {}
        self._told: set[tuple[str, str]] = set()
        self._resumed = False

    def known_ids(self) -> list[str]:
        """The ids of all files that were read before."""
        return list(self._positions.known)

    def resume(self, stored: Mapping[str, int]) -> None:
        """Begin where the sink stands, which may be behind or ahead of the positions file."""
        for key, offset in stored.items():
            if key in self._positions.known and self._positions.known[key].offset != offset:
                self._positions.put(identities.moved(self._positions.known[key], offset))
        self._resumed = True

    def discover(self) -> None:
        """Open what is new, notice what was renamed, deleted or truncated, finish what is done."""
        seen: set[tuple[int, int]] = set()
        for job in self._plan.jobs:
            for target in job.targets:
                for path in target.paths():
                    identity = self._look(job, target, path)
                    if identity:
                        seen.add(identity)
        if self._resumed:
            self._find_rotated(seen)
            self._resumed = False
        self._give_up(seen)
        self.save()

    def _look(self, job: Job, target: Target, path: str) -> tuple[int, int] | None:
        try:
            status = os.stat(path)
            identity = (status.st_dev, status.st_ino)
            tail = self.tails.get(identity)
            if tail is not None:
                tail.orphan_since = None
                self.check(tail)
                return identity
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._tell("unreadable", path, error.strerror or str(error))
            return None
        if looks_binary(descriptor):
            self._tell("binary", path, "it is not text; skipped")
            os.close(descriptor)
            return None
        self._open(job, job.labels_of(target, path), path, descriptor)
        return identity

    def _open(self, job: Job, labels: dict[str, str], path: str, descriptor: int, known: Known | None = None) -> None:
        if known is None:
            same_inode = [k for k in self._positions.known.values() if k.identity == positions_identity(descriptor)]
            known = next((k for k in same_inode if identities_still(k, descriptor)), None)
        if known is None:
            known = begun(job.name, path, descriptor)
            self._positions.put(known)
        longest = RECORD if job.format == "spool" else self._plan.max_line_size
        self.tails[known.identity] = Tail(job, labels, known, descriptor, longest)
        self._told = {told for told in self._told if told[1] != path}

    def check(self, tail: Tail) -> bool:
        """Notice a file that was truncated, also when it has grown past where it was since."""
        replaced = tail.replaced()
        if replaced:
            self._begin_again(tail)
        return replaced

    def _begin_again(self, tail: Tail) -> None:
        """A file that shrank holds other lines now: it becomes another source, read from its beginning."""
        log.info("event=truncated file=%s read=%d size=%d", tail.known.path, tail.position, tail.size)
        tail.known = begun(tail.job.name, tail.known.path, tail.descriptor)
        self._positions.put(tail.known)
        tail.rewind(0)

    def _find_rotated(self, seen: set[tuple[int, int]]) -> None:
        """Files that were renamed while nobody looked: sought by inode in the folder where they were."""
        for known in list(self._positions.known.values()):
            job = self._jobs.get(known.job)
            if job is None or known.identity in seen or known.identity in self.tails:
                continue
            with contextlib.suppress(OSError):
                for entry in os.scandir(Path(known.path).parent):
                    if entry.inode() == known.inode and entry.is_file(follow_symlinks=False):
                        self._take_rotated(job, known, entry.path)

    def _take_rotated(self, job: Job, known: Known, path: str) -> None:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        target = next((t for t in job.targets if t.names(known.path)), job.targets[0])
        if identities_still(known, descriptor) and os.fstat(descriptor).st_size > known.offset:
            self._open(job, job.labels_of(target, known.path), known.path, descriptor, known)
        else:
            os.close(descriptor)

    def _give_up(self, seen: set[tuple[int, int]]) -> None:
        now = time.monotonic()
        for identity, tail in list(self.tails.items()):
            if identity in seen:
                continue
            if tail.orphan_since is None:
                tail.orphan_since = now
            elif now - tail.orphan_since > (_WATCH if tail.linked else _GRACE) and tail.drained():
                self._positions.put(tail.known)
                tail.close()
                del self.tails[identity]

    def final(self, tail: Tail) -> bool:
        """Whether nothing will be written to the file any more, so that a last line without newline is whole."""
        return tail.orphan_since is not None and time.monotonic() - tail.orphan_since > _GRACE

    def acknowledged(self, tail: Tail, offset: int) -> None:
        """Move the position of a file."""
        tail.acknowledged(offset)
        self._positions.put(tail.known)

    def save(self) -> None:
        """Write the positions file when something changed."""
        old = int(time.time()) - _REFRESH
        for tail in self.tails.values():
            if tail.known.seen < old:
                tail.known = identities.moved(tail.known, tail.known.offset)
                self._positions.put(tail.known)
        self._positions.save()

    def plan(self, chunks: Sequence[Planned]) -> bool:
        """Note what is about to be sent, to be sent again as it was if the collector ends before it is acknowledged."""
        return self._positions.plan(chunks)

    def _tell(self, what: str, path: str, why: str) -> None:
        """Report something about a file once."""
        if (what, path) not in self._told:
            self._told.add((what, path))
            log.warning("event=file_%s file=%s reason=%r", what, path, why)

    def tell_once(self, what: str, path: str, why: str) -> None:
        """Report something about a file the first time it happens."""
        self._tell(what, path, why)

    def close(self) -> None:
        """Save and close everything."""
        self.save()
        self._positions.close()
        for tail in self.tails.values():
            tail.close()


def begun(job: str, path: str, descriptor: int) -> Known:
    """An open file that was not known before."""
    return identities.begin(job, path, os.fstat(descriptor), partial(os.pread, descriptor))


def identities_still(known: Known, descriptor: int) -> bool:
    """Whether the open file is the known one."""
    return known.identity == positions_identity(descriptor) and known.holds(partial(os.pread, descriptor))


def positions_identity(descriptor: int) -> tuple[int, int]:
    """Device and inode of an open file."""
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino
