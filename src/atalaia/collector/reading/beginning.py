"""How a file begins to be read: as new, or as what a rotation made of one that is known; and what is no text."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace

from atalaia.collector.plan import Job, Plan
from atalaia.collector.reading import identity, names
from atalaia.collector.reading.contents import KINDS, Content, kind_of, looks_binary
from atalaia.collector.reading.identity import Known
from atalaia.collector.reading.positions import Positions
from atalaia.collector.reading.tail import Tail
from atalaia.collector.reading.tails import Tails, content_of
from atalaia.collector.reading.telling import Told

log = logging.getLogger("atalaia.collector")
_LOOKED_AT = 4096  # first bytes that tell what a file is
_COPYING = 5.0  # seconds without growth after which a copy is no longer taken to be in the making
_AGAIN = 1.0  # seconds between looks at what is not decided yet


class Beginning:
    """Decides what a fresh tail is. Used by the reading thread alone."""

    def __init__(self, plan: Plan, positions: Positions, tails: Tails, told: Told) -> None:
        self._plan = plan
        self._positions = positions
        self._tails = tails
        self._told = told
        self._growing: dict[tuple[str, int, int], tuple[int, float]] = {}
        self._by_name: dict[tuple[str, str, str], set[str]] = {}
        for known in positions.known.values():
            self._index(known)

    def _index(self, known: Known) -> None:
        folder, name = os.path.split(known.real or known.path)
        for one in {name, names.base(name), os.path.basename(known.path)}:
            self._by_name.setdefault((known.job, folder, one), set()).add(known.id)

    def put(self, known: Known) -> None:
        """Keep a file's position."""
        if known.id not in self._positions.known:
            self._index(known)
        self._positions.put(known)

    def decide(self, tail: Tail) -> Tail | None:
        """What a fresh tail is to be read as: itself, or the tail of a known file whose content it holds.

        None: there is nothing to read now. It is then awake again when there may be.
        """
        content = tail.content
        head = os.pread(content.descriptor, _LOOKED_AT, 0) if content is not None else b""
        if content is None or not head:
            return None
        kind = kind_of(head) or ("z" if is_z(tail.job, tail.unpack, tail.known.path) else None)
        if kind is None and looks_binary(head) and not tail.wide:
            self._skip(tail, "binary", _why_binary(head))
            return None
        if kind is not None and tail.kind is None:
            tail.kind = kind
            tail.content = content = content_of(content.descriptor, kind)
        if tail.job.listen is None:
            known = self._continued(tail, content)
            if isinstance(known, Known):
                return self._adopt(tail, known)
            if known is _WAIT:
                self._tails.wake_at(time.monotonic() + _AGAIN, tail)
                return None
        if kind is not None:
            if not tail.unpack:
                self._skip(tail, "compressed", "it is compressed; `decompression: {enabled: true}` in its job reads it")
                return None
            delay = tail.job.decompression.delay if tail.job.decompression is not None else 0.0
            if (left := tail.found_at + delay - time.monotonic()) > 0:
                self._tails.wake_at(time.monotonic() + left, tail)
                return None
        return self._begin(tail, content)

    def _skip(self, tail: Tail, what: str, why: str) -> None:
        # It stays among the tails, fresh and closed: when it changes it is looked at again.
        self._told.once(what, tail.known.path, f"{why}; skipped")
        tail.kind = None
        self._tails.shut(tail)

    def _begin(self, tail: Tail, content: Content) -> Tail:
        """From its beginning."""
        old = tail.known
        status = os.fstat(content.descriptor)
        self._tails.remove(tail)
        known = identity.begin(old.job, old.path, status, content.read, old.real)
        tail.begin(known)
        self._tails.add(tail)
        self.put(known)
        return tail

    def begin_again(self, tail: Tail) -> Tail:
        """A file that shrank, or was written anew, holds other lines now: another source, read from its beginning."""
        content = tail.content
        assert content is not None
        log.info("event=truncated file=%s read=%d size=%d", tail.known.path, tail.position, content.size())
        self._tails.remove(tail, gone=True)
        status = os.fstat(content.descriptor)
        known = identity.begin(tail.job.name, tail.known.path, status, content.read, tail.known.real)
        fresh = tail.another(known, content)
        tail.content = None
        tail.known = replace(tail.known, device=0, inode=0)
        self.put(tail.known)
        self._tails.add(fresh)
        self.put(fresh.known)
        self.seek(tail.known)
        return fresh

    # -- what a rotation leaves

    def _related(self, job: Job, path: str) -> Iterator[Known]:
        """Known files of a job that this one may be a rotation of, by its name; the last one seen first."""
        folder, name = os.path.split(path)
        ids = {i for one in names.origins(name) for i in self._by_name.get((job.name, folder, one), ())}
        found = [self._positions.known[i] for i in ids if i in self._positions.known]
        return iter(sorted(found, key=lambda known: known.seen, reverse=True))

    def _continued(self, tail: Tail, content: Content) -> Known | object | None:
        """The known file whose content this is; `_WAIT`: that cannot be told yet; None: it is new."""
        waiting = False
        for known in self._related(tail.job, tail.known.real):
            # What has the known one's own name now is another file, whatever it holds.
            named = known.path == tail.known.path and tail.orphan_since is None
            if named or not known.head_size or known.identity == tail.known.identity:
                continue
            if self._tails.is_gone(known.id):
                if known.holds(content.read):
                    return known
                continue
            live = self._tails.by_id[known.id]
            if known.holds(content.read):
                if live.orphan_since is not None and live.content is not None and live.unlinked and live.drained():
                    return known
                waiting = waiting or self._is_copied(tail, content, live)
                continue
            waiting = waiting or self._in_the_making(tail, content, live)
        # What was seen to be renamed is no copy; what is deleted already may well be one.
        return _WAIT if waiting and (tail.orphan_since is None or tail.unlinked) else None

    def _is_copied(self, tail: Tail, content: Content, live: Tail) -> bool:
        """Whether this may be a copy of an open file that is about to be truncated or deleted."""
        if not self._tails.opened(live) or live.content is None or not live.still():
            return True
        if tail.kind is not None or tail.unlinked:
            return True  # nothing is lost: the open file holds the same
        # Two files that began alike are longer than one another at some time; copies are not.
        if content.size() > (live.content.size() if live.kind is None else live.position):
            return False
        return live.kind is not None or self._grows(tail, content)

    def _grows(self, tail: Tail, content: Content) -> bool:
        """Whether it grew within the last seconds."""
        raw = os.fstat(content.descriptor).st_size
        before, since = self._growing.get(tail.key, (-1, 0.0))
        if before != raw:
            self._growing[tail.key] = raw, time.monotonic()
            return True
        return time.monotonic() - since < _COPYING

    def _in_the_making(self, tail: Tail, content: Content, live: Tail) -> bool:
        """Whether this may become a copy of an open file: the same so far, and growing still."""
        if not self._tails.opened(live) or live.content is None:
            return False
        size = content.size() if tail.kind is None else len(content.read(live.known.offset, 0))
        at = max(0, size - identity.SPAN)
        first = min(size, identity.SPAN)
        if size >= live.position or live.content.read(first, 0) != content.read(first, 0):
            return False
        if live.content.read(size - at, at) != content.read(size - at, at):
            return False
        return self._grows(tail, content)

    def _adopt(self, fresh: Tail, known: Known) -> Tail:
        """Read on in the copy, or the compressed form, of a known file that is no longer there itself."""
        self._growing.pop(fresh.key, None)
        self._tails.remove(fresh)
        old = self._tails.by_id.get(known.id)
        if old is not None:
            self._tails.remove(old)
            old.close()
        else:
            labels = {**fresh.labels, "filename": known.path} if fresh.job.filename else fresh.labels
            old = fresh.another(known, None)
            old.labels = labels
            old.replay(self._positions.planned.get(known.id, ()))
        old.content, fresh.content = fresh.content, None
        old.kind, old.fresh, old.orphan_since = fresh.kind, False, fresh.orphan_since
        device, inode = fresh.known.identity
        old.known = replace(old.known, device=device, inode=inode, real=fresh.known.real)
        self.put(old.known)
        self._tails.add(old)
        self._tails.name(old, fresh.known.path)
        log.info("event=continued file=%s as=%s at=%d", known.path, fresh.known.path, old.position)
        return old

    def seek(self, known: Known) -> None:
        """Look for what became of a known content whose file is gone or holds another: renamed, copied, compressed."""
        job = next((job for job in self._plan.jobs if job.name == known.job), None)
        folder, name = os.path.split(known.real or known.path)
        if job is None or job.listen is not None:
            return
        stems = {name, names.base(name), os.path.splitext(name)[0]}
        try:
            entries = [e for e in os.scandir(folder) if e.name.startswith(tuple(stems)) or e.inode() == known.inode]
        except OSError:
            return
        for entry in entries:
            if entry.path != known.path and entry.is_file(follow_symlinks=False):
                self._try(job, known, entry.path)
                if not self._tails.is_gone(known.id):
                    return

    def _try(self, job: Job, known: Known, path: str) -> None:
        own = os.path.basename(known.real or known.path)
        related = bool({own, names.base(own)} & names.origins(os.path.basename(path)))
        self._tails.make_room()
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return
        status = os.fstat(descriptor)
        # Inodes are used again: without a fingerprint the name must fit as well.
        same = known.identity == (status.st_dev, status.st_ino) and (related or known.head_size > 0)
        kind = kind_of(os.pread(descriptor, 8, 0))
        content = content_of(descriptor, kind)
        taken = self._tails.by_key.get((job.name, status.st_dev, status.st_ino))
        target = next((t for t in job.targets if t.names(known.path)), None)
        unread = (same or (related and known.head_size > 0)) and (taken is None or taken.fresh) and target is not None
        holds = unread and known.holds(content.read)
        if target is None or not (holds and content.read(1, known.offset)):
            content.close()
            return
        begun = identity.begin(job.name, path, status, content.read, path)
        fresh = Tail(job, job.labels_of(target, known.path), begun, content, self._plan.longest(job))
        fresh.orphan_since, fresh.target = time.monotonic(), target
        fresh.kind = kind
        if taken is not None:
            self._tails.remove(taken)
            taken.close()
        self._tails.add(fresh)
        self._adopt(fresh, known)


_WAIT = object()


def is_z(job: Job, unpack: bool, path: str) -> bool:
    """Whether a file is said to be zlib's format, which nothing in it tells for sure."""
    given = job.decompression.format if job.decompression is not None else None
    return unpack and (KINDS.get(given or "") == "z" or (not given and path.endswith(".z")))


def _why_binary(head: bytes) -> str:
    marks: dict[bytes, str] = {b"\xff\xfe": "utf-16le", b"\xfe\xff": "utf-16be"}
    code = marks.get(head[:2])
    return f"it is {code}; `encoding: {code}` in its job reads it" if code else "it is not text"
