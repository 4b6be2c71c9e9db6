"""The files of a plan: what is new in them, each in its turn; positions move when it is acknowledged."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from atalaia.collector.plan import Plan
from atalaia.collector.reading import identity
from atalaia.collector.reading.beginning import Beginning
from atalaia.collector.reading.chunk import BLOCK, Chunk
from atalaia.collector.reading.finding import Finding
from atalaia.collector.reading.positions import Lag, Positions
from atalaia.collector.reading.rate import Rate
from atalaia.collector.reading.tables import Planned
from atalaia.collector.reading.tail import Replaced, Tail
from atalaia.collector.reading.tails import Key, Tails
from atalaia.collector.reading.telling import Told
from atalaia.collector.reading.watch import Watcher

log = logging.getLogger("atalaia.collector")
_LOOK = 1.0  # seconds between looks at all files, at least; where the kernel tells what changes, _LOOK_WATCHED
_LOOK_WATCHED = 5.0
_LOOK_LATEST = 60.0
_COST = 200  # times what a look took is the time until the next
_POLL = 0.15  # seconds between looks at open files that nobody tells of, at least
_GATHERED = 0.05  # seconds in which news are gathered, so that a busy writer does not make a push of each line
_MANY = 256  # files in one batch, at most
_SAVE = 1.0  # seconds between writes of positions
_REFRESH = 86_400  # seconds after which an open file's `seen` is renewed, so that a quiet file is not forgotten
_LEAST = 1 << 16  # bytes that are read of a file, if it has them


class Files:
    """The open files of a plan, for one output. Used by the reading thread alone."""

    def __init__(self, plan: Plan, positions: Path | None = None) -> None:
        """Take up the files that the positions file (the plan's, if none is given) knows.

        Raises InputError when that is damaged or in use.
        """
        self._positions = Positions(positions or plan.positions)
        self._told = Told()
        self.tails = Tails()
        self._beginning = Beginning(plan, self._positions, self.tails, self._told)
        self._finding = Finding(plan, self._positions, self.tails, self._beginning, self._told)
        self._watcher = Watcher()
        self._rate = Rate(plan.limits)
        self._polled: set[Key] = set()
        self._linked: set[str] = set()  # folders that links point into
        self._looked: float | None = None
        self._took = 0.0
        self._next_look = 0.0
        self._next_poll = 0.0
        self._next_save = 0.0
        self._next_refresh = time.monotonic() + _REFRESH

    def known_ids(self) -> list[str]:
        """The ids of all files that were read before."""
        return list(self._positions.known)

    def resume(self, stored: Mapping[str, int]) -> None:
        """Begin where the sink stands, which may be behind or ahead of the positions file."""
        for key, offset in stored.items():
            known = self._positions.known.get(key)
            if known is not None and known.offset != offset:
                self._positions.put(identity.moved(known, offset))

    def look(self, everywhere: bool = False) -> None:
        """Open what is new, notice what was renamed, deleted or changed, finish what is done.

        It is cheap when nothing happened; `everywhere`: all files are looked at, whatever was told of them.
        """
        now = time.monotonic()
        news = self._watcher.news()
        self._finding.take(news)
        if news.folders:
            # Not each time: many folders may come and go at once.
            self._next_look = min(self._next_look, (self._looked or 0.0) + min(_LOOK, 10 * self._took))
        if everywhere or self._looked is None or now >= self._next_look:
            self._look()
        if now >= self._next_poll:
            self._poll(now)
        self.tails.wake_due(now)
        if now >= self._next_save:
            self.save()
            self._next_save = now + _SAVE

    def _look(self) -> None:
        began = time.thread_time()  # not what others make it wait
        # Watched first: what comes after the look is told of then.
        folders = self._finding.folders()
        self._watcher.watch(folders | self._linked)
        self._finding.look(first=self._looked is None)
        self._linked = {os.path.dirname(tail.known.real) for tail in self.tails if tail.known.real != tail.known.path}
        if not self._linked <= folders:
            self._watcher.watch(folders | self._linked)
        self._polled = {
            tail.key for tail in self.tails if not (tail.alone and self._watcher.sees(tail.known.path, tail.known.real))
        }
        self._looked = time.monotonic()
        least = _LOOK if self._watcher.blind else _LOOK_WATCHED
        self._took = time.thread_time() - began
        self._next_look = self._looked + min(max(least, self._took * _COST), _LOOK_LATEST)
        if self._looked >= self._next_refresh:
            self._refresh()

    def _refresh(self) -> None:
        self._next_refresh = time.monotonic() + _REFRESH
        for tail in self.tails:
            if not tail.fresh:
                tail.known = identity.moved(tail.known, tail.known.offset)
                self._beginning.put(tail.known)

    def _poll(self, now: float) -> None:
        """Look at the files whose changes nobody tells of; close those that are done."""
        began = time.thread_time()
        for key in (*self._polled, *self.tails.orphans):
            tail = self.tails.by_key.get(key)
            if tail is None:
                continue
            try:
                status = os.fstat(tail.content.descriptor) if tail.content is not None else os.stat(tail.known.path)
            except OSError:
                continue
            if (status.st_size, status.st_mtime_ns) != tail.stood:
                self.tails.wake(tail.key)
        self._finding.give_up()
        self._next_poll = now + max(_POLL, (time.thread_time() - began) * _COST)

    def gather(self, flush: bool = False) -> list[tuple[Tail, Chunk]]:
        """What is new in the files, a block at most, each file in its turn.

        `flush`: what is held back is wanted as well. Nothing is returned of a file whose id is not on disk yet.
        """
        chunks: list[tuple[Tail, Chunk]] = []
        left = BLOCK
        if flush:
            for waiting in [tail for tail in self.tails if tail.waits_until is not None and not tail.job.resumes]:
                self.tails.wake(waiting.key)
        ready = list(self.tails.ready)
        self._begin(ready[: 4 * _MANY])
        for key in ready:
            if left <= 0 or len(chunks) >= _MANY or self._rate.spent():
                break
            self.tails.ready.pop(key, None)
            tail = self.tails.by_key.get(key)
            chunk = self._serve(tail, max(left, _LEAST), flush) if tail is not None and not tail.fresh else None
            if tail is not None and chunk is not None:
                chunks.append((tail, chunk))
                left -= len(chunk.block)
                self.tails.wake(tail.key)
        return chunks

    def _begin(self, ready: Sequence[Key]) -> None:
        """Decide what fresh files are, and write their ids down at once."""
        for key in ready:
            tail = self.tails.by_key.get(key)
            if tail is None or not tail.fresh:
                continue
            self.tails.ready.pop(key, None)
            self._stands(tail)
            try:
                if self.tails.opened(tail):
                    self._beginning.decide(tail)
            except OSError as error:
                self._told.once("unreadable", tail.known.path, error.strerror or str(error))
        self._positions.save()

    def _stands(self, tail: Tail) -> None:
        """Note how the file is before it is read: what changes afterwards is seen by that."""
        try:
            status = os.fstat(tail.content.descriptor) if tail.content is not None else os.stat(tail.known.path)
        except OSError:
            return
        tail.stood = status.st_size, status.st_mtime_ns
        tail.alone = status.st_nlink < 2

    def _serve(self, tail: Tail, most: int, flush: bool) -> Chunk | None:
        now = time.monotonic()
        try:
            if not self.tails.opened(tail):
                self._vanished(tail)
                return None
            if not self._positions.durable(tail.known.id):
                self.tails.wake_at(now + _SAVE, tail)
                return None
            self._stands(tail)
            chunk = tail.read(most, self._finding.final(tail), flush and not tail.job.resumes)
        except Replaced:
            self._beginning.begin_again(tail)
            return None
        except OSError as error:
            self._told.once("unreadable", tail.known.path, error.strerror or str(error))
            self.tails.shut(tail)
            self.tails.wake_at(now + _SAVE, tail)
            return None
        if chunk is None:
            if tail.waits_until is not None:
                self.tails.wake_at(tail.waits_until, tail)
            if why := tail.broken:
                self._told.once("damaged", tail.known.path, f"{why}; what could be read of it is delivered")
            return None
        if tail.behind_since is None:
            tail.behind_since = now
        return self._rate.limited(tail, chunk, self._told)

    def _vanished(self, tail: Tail) -> None:
        """A file that was closed and is no longer where it was: renamed, or deleted with nothing unread as we knew."""
        self.tails.remove(tail)
        self._beginning.put(replace(tail.known, device=0, inode=0))
        self._beginning.seek(tail.known)

    def acknowledged(self, known_id: str, offset: int) -> None:
        """The sink has everything of a file up to `offset`."""
        tail = self.tails.by_id.get(known_id)
        if tail is not None:
            tail.acknowledged(offset)
            self._positions.put(tail.known)
            if tail.known.offset >= tail.position:
                tail.behind_since = None

    def rewind(self, stands: Mapping[str, int]) -> None:
        """Read again what is not acknowledged; the sink stands at these offsets of these files."""
        for known_id, offset in stands.items():
            self.acknowledged(known_id, offset)
        for tail in self.tails:
            if not tail.fresh:
                tail.rewind(tail.known.offset)
                self.tails.wake(tail.key)

    def plan(self, chunks: Sequence[Planned]) -> bool:
        """Note what is about to be sent, to be sent again as it was if the collector ends before it is acknowledged."""
        return self._positions.plan(chunks)

    def lags(self) -> list[Lag]:
        """How far each file is behind, compressed ones by what is known of their content."""
        now, found = time.monotonic(), []
        for tail in self.tails:
            if not tail.fresh:
                size = tail.size
                behind = max(0, size - tail.known.offset)
                since = tail.behind_since if tail.behind_since is not None else now
                found.append(Lag(tail.known.path, tail.job.name, size, behind, now - since if behind else 0.0))
        return found

    def wait(self, seconds: float) -> None:
        """Return when something happened, a little later so that it is not one line, or after so many seconds."""
        now = time.monotonic()
        until = min(now + seconds, self._next_poll if self._watcher.blind else now + seconds)
        if (due := self.tails.next_due) is not None:
            until = min(until, due)
        if self._watcher.wait(max(0.0, until - now)):
            time.sleep(min(_GATHERED, seconds))

    def save(self) -> None:
        """Write what changed to the positions file."""
        self._positions.save()

    def tell_once(self, what: str, path: str, why: str) -> None:
        """Report something about a file the first time it happens."""
        self._told.once(what, path, why)

    def close(self) -> None:
        """Save and close everything."""
        self._positions.close()
        self._watcher.close()
        self.tails.close()
