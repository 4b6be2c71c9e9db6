"""What a store does on its own: retention, deletion, compaction. One thread, one repeatable step at a time."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from atalaia.store.catalogue import Catalogue
from atalaia.store.compact import compact, remove
from atalaia.store.deletion import Deletion, Eraser
from atalaia.store.ledger import Ledger
from atalaia.store.policy import next_inputs
from atalaia.store.retention import Due, Retention
from atalaia.store.segment import Segment
from atalaia.store.shelf import Shelf
from atalaia.store.space import Space
from atalaia.store.streams import Streams

log = logging.getLogger("atalaia.store")
_RETENTION_EVERY = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class House:
    """The parts of a store that its maintenance works on.

    `idle`: whether no segment was written for a while; `oldest_in_memory`: the lowest seq that is in no segment yet.
    """

    catalogue: Catalogue
    shelf: Shelf
    streams: Streams
    space: Space
    numbers: itertools.count[int]
    retention: Retention
    idle: Callable[[], bool]
    oldest_in_memory: Callable[[], int]


class _Stopped(Exception):
    """The store is being closed; what was begun will be done again."""


class Maintenance:
    """The thread; `wake` it when there may be something to do, `stop` it before the catalogue is closed."""

    def __init__(self, house: House, every: float) -> None:
        """`every`: seconds after which it looks again by itself."""
        self._house = house
        self._every = every
        self._changed = threading.Condition()
        self._stopping = False
        self._woken = False
        self._failed: set[str] = set()
        self._ledger = Ledger(house.retention, house.streams)
        self._retained = -_RETENTION_EVERY
        self._trims: list[Due] = []
        self.deletions = tuple(d for d in house.catalogue.deletions() if d.finished is None)
        self.settled = False
        self.thread = threading.Thread(target=self._run, name="maintenance", daemon=True)
        self.thread.start()

    def wake(self) -> None:
        """Look for work now."""
        with self._changed:
            self._woken, self.settled, self._retained = True, False, -_RETENTION_EVERY
            self._changed.notify_all()

    def stop(self) -> None:
        """End after the step that is being done."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.thread.join()

    def delete(self, wanted: Deletion) -> Deletion:
        """Hide entries from now on, and remove them from the files soon; the deletion with its number."""
        found = self._house.catalogue.add_deletion(wanted, self._house.streams)
        with self._changed:
            self.deletions = (*self.deletions, found)
        self.wake()
        return found

    def _run(self) -> None:
        while True:
            with self._changed:
                if self._stopping:
                    return
                self._woken = False
            worked = self._step()
            with self._changed:
                if not worked and not self._woken:
                    self.settled = self._house.idle()
                    self._changed.notify_all()
                    self._changed.wait_for(lambda: self._woken or self._stopping, self._every)

    def _step(self) -> bool:
        """Do one thing; whether there was one."""
        try:
            return self._retain() or self._erase() or self._compact() or self._trim()
        except Exception as error:  # noqa: BLE001 - the thread must go on; what is to be done will be found again
            log.error("event=maintenance_failed reason=%r", str(error))
            return False

    def _retain(self) -> bool:
        """Remove segments of which retention keeps nothing; note those that it wants to be written again."""
        if time.monotonic() - self._retained < _RETENTION_EVERY:
            return False
        self._retained = time.monotonic()
        fixed = self._failed if self._house.space.shortage() is None else None
        found = self._ledger.due(self._house.shelf.parts, time.time_ns(), fixed)
        self._trims = [one for one in found if not one.whole]
        names = {one.name for one in found if one.whole}
        if names:
            gone = [one for one in self._house.shelf.segments if one.name in names]
            log.info("event=retention segments=%d rows=%d", len(gone), sum(one.rows for one in gone))
            self._house.catalogue.replace(names, [])
            self._house.shelf.replace(names, [])
        return bool(names)

    def _trim(self) -> bool:
        """Write one segment again without what retention removes of it."""
        if not self._trims:
            return False
        wanted = self._trims.pop(0)
        inputs = [found for found in self._house.shelf.segments if found.name == wanted.name]
        # One that was compacted meanwhile is looked at again with the next round.
        return self._rewrite(inputs, wanted.cuts) if inputs else True

    def _erase(self) -> bool:
        """Go on with the oldest deletion: one more segment, or its end."""
        for deletion in self.deletions:
            for part in self._house.shelf.parts:
                found = part.segment
                if found is None or found.name in self._failed:
                    continue
                if deletion.touches(found.purged, found.first_seq, found.min_ts, found.max_ts, part.held):
                    return self._rewrite([found])
            if self._is_done(deletion):
                self._house.catalogue.finish_deletion(deletion.id)
                with self._changed:
                    self.deletions = tuple(d for d in self.deletions if d.id != deletion.id)
                log.info("event=deletion_finished id=%d", deletion.id)
                return True
        return False

    def _is_done(self, deletion: Deletion) -> bool:
        """Whether no file has any of it: no log, none that a query still reads, no segment, damaged ones included."""
        if self._house.oldest_in_memory() <= deletion.seq or self._failed or not self._house.shelf.tidy:
            return False
        exist = ((made.segment, made.held) for made in self._house.catalogue.segments())
        return not any(deletion.touches(s.purged, s.first_seq, s.min_ts, s.max_ts, held) for s, held in exist)

    def _compact(self) -> bool:
        if self._house.space.shortage() is not None:
            return False
        usable = [found for found in self._house.shelf.segments if found.name not in self._failed]
        inputs = next_inputs(usable, self._house.idle())
        return self._rewrite(inputs) if inputs else False

    def _rewrite(self, inputs: Sequence[Segment], cuts: Mapping[int, int] | None = None) -> bool:
        """Compact segments, without what deletions and retention remove; `cuts` beside what is too old (Due)."""
        house, names = self._house, [found.name for found in inputs]
        if not house.shelf.verify(inputs):
            return True
        deletions = self.deletions
        going = house.retention.before(time.time_ns())
        going |= {rule: max(before, going.get(rule, before)) for rule, before in (cuts or {}).items()}
        eraser = Eraser(deletions, self._ledger.oldest(going) if going else None)

        def left(table: pa.Table) -> pa.Table:
            if self._stopping:
                raise _Stopped
            return eraser(table)

        began = time.monotonic()
        try:
            made = compact(
                inputs,
                house.shelf.folder,
                house.streams,
                lambda: next(house.numbers),
                left,
                max((deletion.id for deletion in deletions), default=max(found.purged for found in inputs)),
            )
        except _Stopped:
            return True
        except Exception as error:  # these segments stay as they are, and are read as they are
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the system's, such as no room: it is tried again; those of pyarrow have no number
            self._failed.update(names)
            log.error("event=compaction_failed segments=%s reason=%r", ",".join(names), str(error))
            return True
        try:
            house.catalogue.replace(names, made, eraser.removed)
        except BaseException:
            for one in made:
                remove(house.shelf.folder, one.segment)
            raise
        house.shelf.replace(names, made)
        log.info(
            "event=compacted segments=%d into=%d rows=%d expired=%d seconds=%.2f",
            len(names), len(made), sum(one.segment.rows for one in made), eraser.expired, time.monotonic() - began,
        )  # fmt: skip
        return True
