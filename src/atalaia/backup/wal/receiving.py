"""Streams a server's WAL into the archive until it is told to stop, whatever the server and the repository do."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg

from atalaia.backup import catalogue
from atalaia.backup.copies import copy_wal
from atalaia.backup.model import Progress, logfmt
from atalaia.backup.site import Site
from atalaia.backup.vault.local import LocalPlace
from atalaia.backup.vault.place import PlaceError
from atalaia.backup.wal import beginning, left, segment, slot, spool, status, stream
from atalaia.backup.wal.archive import Archive, open_archive, systems
from atalaia.backup.wal.spool import Spool
from atalaia.backup.wal.view import interruptions
from atalaia.environment.errors import AtalaiaError
from atalaia.environment.units import parse_size
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect, said

EVERY = 5.0
"""Seconds between two uploads of a segment that is still being received."""
_TICK = 1.0
_LOOK = 30.0  # seconds between two looks for what is missing
_COPY = 60.0  # seconds between two looks for what the further repositories have not got
_NOTE = 60.0  # seconds between two notes in the archive of what it covers
_SAMPLES = 100_000
_PAUSES = (0.5, 15.0)  # seconds before another try, the first and the longest
_log = logging.getLogger("atalaia.backup")


def receive(cluster: Cluster, site: Site, stop: threading.Event, tell: Progress, *, every: float = EVERY) -> None:
    """Stream until `stop`. Raises AtalaiaError when another process does so already; all else is told and tried again.

    What it does is in `status.load`.
    """
    with _lock(site, cluster.name):
        receiver = _Receiver(cluster, site, stop, tell, every)
        copier = threading.Thread(target=_copy, args=(cluster.name, site, stop, tell), name=f"wal-copy-{cluster.name}")
        if site.copies:
            copier.start()
        try:
            receiver.run()
        finally:
            receiver.close()
            if site.copies:
                copier.join()


def _copy(server: str, site: Site, stop: threading.Event, tell: Progress) -> None:
    """Let the further repositories have what is archived, beside: one that is away holds nothing up."""
    told: dict[str, str] = {}
    while not stop.wait(_COPY):
        problems = copy_wal(site, server, lambda _: None)
        for address, problem in problems.items():
            if told.get(address) != problem:
                tell(f"{server}: its WAL is not up to date in {address}: {problem}")
        told = problems


class _Receiver:
    def __init__(self, cluster: Cluster, site: Site, stop: threading.Event, tell: Progress, every: float) -> None:
        self._cluster, self._site, self._stop, self._tell, self._every = cluster, site, stop, tell, every
        self._tick = min(_TICK, every)
        self._status = status.begin(cluster.name)
        if before := status.load(site, cluster.name):
            kept = ("archived_at", "covered_until", "archived_lsn", "system", "timeline", "interruptions")
            self._status = replace(self._status, **{name: getattr(before, name) for name in kept})
        # What was archived must be there again: an empty place is a disk that is not mounted.
        self._known = self._status.system if self._status.archived_at else ""
        self._pause = _PAUSES[0]
        self._spool: Spool | None = None
        self._archive: Archive | None = None
        self._looked, self._there = 0.0, -1
        self._retry = 0.0  # when to ask the repository again
        self._away = ""
        self._samples: deque[tuple[float, datetime, int]] = deque()
        self._noted = -_NOTE
        self._told = ""

    def run(self) -> None:
        """Try until it is to stop; each try waits longer."""
        status.save(self._site, self._status)
        while not self._stop.is_set():
            try:
                self._session()
                problem, remedy = "", ""
            except AtalaiaError as error:
                problem, remedy = error.what, error.remedy
            except (psycopg.Error, OSError) as error:
                problem = said(error)
                remedy = "`atalaia status` shows whether the server runs"
            if problem and not self._stop.is_set():
                self._report("wal_waiting", problem)
            state = self._status.state if self._status.state == "full" else "waiting"
            self._set(state=state, problem=problem or self._away, remedy=remedy, slot="", slot_safe_bytes=None)
            self._wait(self._pause)
            self._pause = min(self._pause * 2, _PAUSES[1])

    def close(self) -> None:
        """The last words of the status."""
        self._set(state="stopped")

    def _wait(self, seconds: float) -> None:
        """Let time pass; what lies in the spool is carried meanwhile."""
        until = time.monotonic() + seconds
        while not self._stop.is_set() and (left := until - time.monotonic()) > 0:
            # What else goes wrong, the next session tells.
            with contextlib.suppress(AtalaiaError, OSError):
                self._carry(None)
            self._stop.wait(min(left, self._tick))

    def _session(self) -> None:
        with contextlib.closing(connect(self._cluster, autocommit=True)) as connection:
            source = slot.source(connection)
            folder = spool.folder_of(self._site, self._cluster.name, source.system)
            stream.end_abandoned(folder)
            if self._spool is None or (self._spool.folder, self._spool.timeline) != (folder, source.timeline):
                self._spool = Spool(folder, source.timeline, source.segment_size, self._every)
                self._archive, self._retry = None, 0.0
                self._samples.clear()
                left.carry(self._site, self._cluster.name, folder, self._tell)
            self._set(system=source.system, timeline=source.timeline)
            self._carry(None)
            if self._full(1.0):
                raise AtalaiaError(
                    f"the spool is full, for the repository is away: {self._away}",
                    "the server keeps WAL meanwhile, as much as [backups.wal] keep allows; see to the repository",
                )
            slot.prepare(self._cluster, connection, self._site.settings.wal.keep, self._tell)
            beginning.place(connection, source, self._spool, self._archive)
            running = stream.start(self._cluster, folder)
            self._tell(f"{self._cluster.name}: streaming WAL from {segment.show(source.position)}")
            _log.info(
                logfmt("wal_streaming", server=self._cluster.name, system=source.system, timeline=source.timeline)
            )
            self._told = ""
            try:
                self._follow(connection, running)
            finally:
                running.stop()
                self._carry(None, now=True)

    def _follow(self, connection: psycopg.Connection[Any], running: stream.Stream) -> None:
        began = time.monotonic()
        while not self._stop.is_set():
            ended = running.ended()
            asked = datetime.now(UTC)
            seen = slot.positions(connection)
            self._carry(seen.received)
            self._measure(connection, seen, asked)
            if ended:
                raise AtalaiaError(f"pg_receivewal ended: {running.reason}", "it is started again")
            if self._full(1.0):
                self._set(state="full")
                raise AtalaiaError(
                    f"the spool is full, for the repository is away: {self._away}",
                    "the server keeps WAL meanwhile, as much as [backups.wal] keep allows; see to the repository",
                )
            if time.monotonic() - began > _PAUSES[1]:
                self._pause = _PAUSES[0]
            self._stop.wait(self._tick)

    def _full(self, share: float) -> bool:
        return self._spool is not None and self._spool.bytes > share * parse_size(self._site.settings.wal.spool)

    def _carry(self, received: int | None, now: bool = False) -> None:
        """Spool to archive. A repository that does not answer is told, and asked again later."""
        if self._spool is None or (time.monotonic() < self._retry and not now):
            return
        try:
            if self._archive is None:
                self._archive = self._open(self._spool)
            self._spool.carry(self._archive)
            self._spool.carry_partial(self._archive, received, now)
            there = len(self._archive.wholes) + len(self._archive.partials)
            if there != self._there or time.monotonic() - self._looked > _LOOK:
                self._there = there
                self._holes(self._archive)
            self._away = ""
        except PlaceError as error:
            self._retry = time.monotonic() + _PAUSES[1] / 3
            self._away = error.what
            self._report("wal_spooling", error.what)

    def _open(self, kept: Spool) -> Archive:
        name, system, place = self._cluster.name, self._status.system, self._site.repository
        if self._known == system and system not in systems(place, name):
            raise PlaceError(
                f"{place.address} has no WAL of {name} any more",
                "see that its disk is mounted; if it was removed on purpose, delete "
                f"{status.path_of(self._site, name)} and make a physical backup",
            )
        if not self._known and isinstance(place, LocalPlace) and not catalogue.list_backups(self._site.catalogue):
            place.begin()  # a repository that was never used: else an empty folder is a disk that is not mounted
        archive = open_archive(
            place,
            name,
            system,
            self._site.keyring(),
            segment_size=kept.segment_size,
            sealing=self._site.sealing(),
            compression=self._site.settings.compression,
            level=self._site.settings.level,
        )
        assert archive
        mine = [each for each in archive.wholes if each.timeline == self._status.timeline]
        if mine:
            kept.reach(kept.timeline, max(mine).end)
        return archive

    def _holes(self, archive: Archive) -> None:
        self._looked = time.monotonic()
        found = tuple(
            f"WAL is missing from {gap}: recovery to a point in time is interrupted there"
            for gap in interruptions(self._site, archive)
        )
        for hole in found:
            if hole not in self._status.interruptions:
                self._tell(f"{self._cluster.name}: {hole}; make a new physical backup")
                _log.error(logfmt("wal_missing", server=self._cluster.name, problem=hole))
        self._set(interruptions=found)

    def _measure(self, connection: psycopg.Connection[Any], where: slot.Positions, asked: datetime) -> None:
        assert self._spool
        now = time.monotonic()
        archived = self._spool.archived
        self._samples.append((now, asked, where.inserted))
        if len(self._samples) > _SAMPLES:
            del self._samples[1]  # the oldest says how long it has been
        covered = self._status.covered_until
        while self._samples and archived is not None and self._samples[0][2] <= archived:
            covered = self._samples.popleft()[1]
        behind = max(0, where.inserted - archived) if archived is not None else None
        if covered and not behind and self._archive and now - self._noted > _NOTE:
            # For recoveries to a time after which nothing was committed.
            with contextlib.suppress(PlaceError):
                self._archive.note_covered(covered, segment.show(where.inserted), self._status.timeline)
                self._noted = now
        seen = slot.look(connection)
        received = where.received
        self._set(
            state="spooling" if self._away else "streaming",
            problem=self._away,
            remedy="WAL is kept in the spool until the repository answers" if self._away else "",
            slot=seen.status if seen else "missing",
            slot_safe_bytes=seen.safe if seen else None,
            server_lsn=segment.show(where.flushed),
            received_lsn=segment.show(received) if received is not None else self._status.received_lsn,
            archived_lsn=segment.show(archived) if archived is not None else "",
            lag_bytes=behind,
            lag_seconds=round(now - self._samples[0][0], 1) if self._samples else 0.0,
            covered_until=covered,
        )

    def _set(self, **values: Any) -> None:
        if self._spool:
            values |= {"spool_bytes": self._spool.bytes}
            if self._spool.archived_at:
                values |= {"archived_at": self._spool.archived_at}
        self._status = replace(self._status, **values)
        status.save(self._site, self._status)

    def _report(self, event: str, problem: str) -> None:
        """Once for the same problem."""
        if problem != self._told:
            self._told = problem
            self._tell(f"{self._cluster.name}: {problem}")
            _log.warning(logfmt(event, server=self._cluster.name, problem=problem))


@contextmanager
def _lock(site: Site, server: str) -> Iterator[None]:
    """Hold the right to stream a server's WAL. Raises AtalaiaError when another has it."""
    site.locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(site.locks / f"wal-{server}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as error:
        raise AtalaiaError(
            f"the WAL of {server} is being streamed already", f"`atalaia backup wal {server}` shows how that goes"
        ) from error
    finally:
        os.close(descriptor)
