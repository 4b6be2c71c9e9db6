"""Which files there are: found by their globs, known again after rotation and restart, given up when they are done."""

from __future__ import annotations

import os
import stat
import time
from dataclasses import replace

from atalaia.collector.plan import Job, Plan, Target
from atalaia.collector.reading import identity, names
from atalaia.collector.reading.beginning import Beginning, is_z
from atalaia.collector.reading.contents import KINDS, kind_of
from atalaia.collector.reading.identity import Known
from atalaia.collector.reading.positions import Positions
from atalaia.collector.reading.tail import Tail
from atalaia.collector.reading.tails import Key, Tails, content_of
from atalaia.collector.reading.telling import Told
from atalaia.collector.reading.watch import News

_GRACE = 3.0  # seconds without its name after which a last line without a newline is taken as whole
_WATCH = 600.0  # seconds that a renamed file is still watched, since its writer may keep it open; a deleted one: _GRACE


class Finding:
    """Keeps the tails as the files are. Used by the reading thread alone."""

    def __init__(self, plan: Plan, positions: Positions, tails: Tails, beginning: Beginning, told: Told) -> None:
        self._plan = plan
        self._positions = positions
        self._tails = tails
        self._beginning = beginning
        self._told = told
        self._matcher = names.matcher(())
        self._lost: list[Known] = []
        self._by_identity: dict[Key, list[str]] = {}
        for known in positions.known.values():
            self._by_identity.setdefault((known.job, *known.identity), []).append(known.id)

    def folders(self) -> set[str]:
        """The folders in which files of the globs come and go."""
        return {folder for job in self._plan.jobs for target in job.targets for folder in names.folders(target)}

    def look(self, first: bool = False) -> None:
        """Go through all globs. `first`: files that were read before, and are found by none, are sought."""
        self._matcher = names.matcher(self._plan.jobs)
        seen: set[Key] = set()
        new: dict[Key, tuple[int, Job, Target, str]] = {}
        for job in self._plan.jobs:
            for target in job.targets:
                for path in target.found():
                    status = self._status(path)
                    if status is None:
                        continue
                    key = (job.name, status.st_dev, status.st_ino)
                    if key in seen:
                        continue
                    seen.add(key)
                    tail = self._tails.by_key.get(key)
                    if tail is None:
                        new[key] = status.st_mtime_ns, job, target, path
                    else:
                        self._again(tail, target, path, status)
        # What was written first is read first.
        for _, job, target, path in sorted(new.values(), key=lambda found: found[0]):
            self._meet(job, target, path)
        if first:
            self._lost += [k for k in self._positions.known.values() if self._tails.is_gone(k.id)]
        for known in self._lost:
            self._beginning.seek(known)
        self._lost = []
        now = time.monotonic()
        for tail in self._tails:
            if tail.key not in seen:
                self._tails.orphan(tail, now)

    def _status(self, path: str) -> os.stat_result | None:
        try:
            status = os.stat(path)
        except FileNotFoundError:
            return None
        except OSError as error:
            self._told.once("unreadable", path, error.strerror or str(error))
            return None
        if stat.S_ISREG(status.st_mode):
            return status
        if not stat.S_ISDIR(status.st_mode):
            self._told.once("special", path, "it is a pipe, socket or device, and no file; skipped")
        return None

    def _again(self, tail: Tail, target: Target, path: str, status: os.stat_result) -> None:
        self._tails.orphan(tail, None)
        self._tails.name(tail, path)
        if tail.target is not target and path == tail.known.path:
            tail.target, tail.labels = target, tail.job.labels_of(target, path)
        if (status.st_size, status.st_mtime_ns) != tail.stood:
            self._tails.wake(tail.key)

    def _meet(self, job: Job, target: Target, path: str, now: str | None = None) -> None:
        """Open a file that is not open: known, or new. `now`: what it is called since."""
        self._tails.make_room()
        try:
            descriptor = os.open(now or path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return
        except OSError as error:
            self._told.once("unreadable", path, error.strerror or str(error))
            return
        status = os.fstat(descriptor)
        unpack = job.decompression is not None or os.path.splitext(target.pattern)[1][1:].lower() in KINDS
        kind = kind_of(os.pread(descriptor, 8, 0)) or ("z" if is_z(job, unpack, path) else None)
        content = content_of(descriptor, kind)
        known = None
        for key in self._by_identity.pop((job.name, status.st_dev, status.st_ino), []):
            one = self._positions.known.get(key)
            if one is None:
                continue
            # To look for the mark of a compressed file would be to unpack all of it.
            if known is None and (one.holds(content.read) if kind is None else one.begins(content.read)):
                known = one
            else:
                one = replace(one, device=0, inode=0)
                self._beginning.put(one)
                self._lost.append(one)
        fresh = known is None
        if known is None:
            known = identity.begin(job.name, path, status, content.read, os.path.realpath(now or path))
        # What is sent again has the labels that it had, so that a Loki knows it: also when it was renamed meanwhile.
        named = known.path if self._positions.planned.get(known.id) else path
        tail = Tail(job, job.labels_of(target, named), known, content, self._plan.longest(job))
        tail.fresh, tail.target, tail.kind = fresh, target, None if fresh else kind
        tail.unpack = unpack
        if fresh:
            tail.content = content_of(descriptor, None)
        self._told.forget(path)
        self._tails.add(tail)
        self._tails.name(tail, now or path)
        if now is not None:
            self._tails.orphan(tail, time.monotonic())
        tail.replay(self._positions.planned.get(known.id, ()))
        if kind is not None and known.whole == status.st_size:
            tail.stood = status.st_size, status.st_mtime_ns
            self._tails.shut(tail)
            self._tails.ready.pop(tail.key, None)

    def take(self, news: News) -> None:
        """What the kernel tells of."""
        for path in news.written:
            for key in self._tails.at(path):
                self._tails.wake(key)
        for path, before in news.renamed.items():
            # A file that came and was rotated before anyone looked.
            status = self._status(path)
            if status is not None and not self._tails.of_inode((status.st_dev, status.st_ino)):
                wanted = {job.name for job, _ in self._matcher.targets(path)}
                for name in before:
                    for job, target in self._matcher.targets(name):
                        if job.name not in wanted:
                            wanted.add(job.name)
                            self._meet(job, target, name, path)
        for path in news.named:
            status = self._status(path)
            same = (status.st_dev, status.st_ino) if status is not None else None
            if same is not None and status is not None:
                for key in list(self._tails.of_inode(same)):
                    self._tails.name(self._tails.by_key[key], path)
                    self._tails.wake(key)
                for job, target in self._matcher.targets(path):
                    tail = self._tails.by_key.get((job.name, *same))
                    if tail is None:
                        self._meet(job, target, path)
                    else:
                        self._again(tail, target, path, status)
            for key in list(self._tails.at(path)):
                tail = self._tails.by_key[key]
                if tail.known.identity != same and tail.orphan_since is None and not self._has_name(tail, path):
                    self._tails.orphan(tail, time.monotonic())
                    self._tails.wake(key)

    def _has_name(self, tail: Tail, but: str) -> bool:
        """Whether a glob finds the file under another name still."""
        for path in self._tails.paths(tail):
            if path == but or not any(job is tail.job for job, _ in self._matcher.targets(path)):
                continue
            try:
                status = os.stat(path)
            except OSError:
                continue
            if (status.st_dev, status.st_ino) == tail.known.identity:
                return True
        return False

    def give_up(self) -> None:
        """Close what has no name any more and is read to its end, once nothing more is to be expected."""
        now = time.monotonic()
        for tail in list(self._tails.orphans.values()):
            if tail.orphan_since is None or now - tail.orphan_since <= _GRACE:
                continue
            self._tails.wake(tail.key)  # its last line is final now
            if now - tail.orphan_since > self._patience(tail) and (tail.fresh or tail.drained()):
                self._tails.remove(tail)
                tail.close()
                if not tail.fresh:
                    key = (tail.job.name, *tail.known.identity)
                    self._by_identity.setdefault(key, []).append(tail.known.id)

    def _patience(self, tail: Tail) -> float:
        if tail.unlinked or tail.content is None:
            return _GRACE
        try:
            status = os.stat(tail.known.path)
        except OSError:
            return _WATCH
        # It is where it was, and no target wants it any more.
        return 0.0 if (status.st_dev, status.st_ino) == tail.known.identity else _WATCH

    def final(self, tail: Tail) -> bool:
        """Whether nothing will be written to the file any more, so that a last line without newline is whole."""
        if tail.kind is not None:
            return tail.content is not None and tail.content.whole()
        return tail.orphan_since is not None and time.monotonic() - tail.orphan_since > _GRACE
