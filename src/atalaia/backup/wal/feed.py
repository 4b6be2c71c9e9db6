"""Gives recovery the archived WAL: segments are fetched and opened ahead, and a shell command copies them."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from atalaia.backup.model import Progress, Target
from atalaia.backup.site import Site
from atalaia.backup.wal import dropping, extent, idle, segment, targets
from atalaia.backup.wal.archive import Archive, open_archive
from atalaia.backup.wal.segment import HISTORY, PARTIAL, Segment
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.places import make

_AHEAD = 6  # segments that lie ready for recovery
_WORKERS = 2
_FOLDER = "wal-feed"
_ENDED = "recovery ended before configured recovery target was reached"
# An exit status above 125 makes PostgreSQL give up (RestoreArchivedFile); with 1 WAL ends for it there, which it takes
# for a failure when it has a target that is not reached. It reads ahead of what it replays (recovery_prefetch): what
# cannot be given may lie behind the target.
_SCRIPT = """#!/bin/sh
# Written by Atalaia for one recovery: $1 is what recovery asks for, $2 where it wants it.
d={folder}
give_up() {{ echo "atalaia: $1" >&2; exit 126; }}
echo "$1" 1<>"$d/asked" || give_up "the recovery was abandoned"
grep -qxF -- "$1" "$d/names" || exit 1
while [ ! -f "$d/ready/$1" ]; do
  if [ -f "$d/failed/$1" ]; then cat "$d/failed/$1" >&2; exit 1; fi
  if [ -d /proc/1 ] && [ ! -d /proc/{pid} ]; then give_up "the recovery was abandoned"; fi
  sleep 0.02
done
cp -- "$d/ready/$1" "$2" || give_up "$1 could not be copied"
"""


class Feed:
    """What a recovery is given: `restore_command`, and `target` with the timeline resolved.

    `way` are the segments from the backup's stop on, which end at `end`; `hole` is missing there, with more behind it.
    `kept` are the OIDs of databases whose DROP is not replayed although it had begun.
    """

    def __init__(self, archive: Archive, cluster: Cluster, timeline: int, start: int, stop: int, target: Target):
        self._archive, self._cluster, self.target = archive, cluster, target
        self.kept: frozenset[int] = frozenset()
        self._folder = cluster.directory / _FOLDER
        size = archive.segment_size
        # Up to its stop the backup has the WAL itself; from there on nothing may be missing.
        self._strict = segment.at(timeline, stop - 1, size)
        self.way, self.hole = extent.way(archive, timeline, self._strict.start)
        self.end = self.way[-1].end if self.way else stop
        before, _ = extent.way(archive, timeline, start)
        # Fetched ahead in this order; what is not in it is fetched when it is asked for.
        self._order = before if len(before) > len(self.way) else self.way
        self._index = {each.name: number for number, each in enumerate(self._order)}
        self._files: dict[str, Future[None]] = {}
        self._asked: set[str] = set()
        self._error: Exception | None = None
        self._pool = ThreadPoolExecutor(_WORKERS, thread_name_prefix="wal")
        self._done = threading.Event()
        command = f"sh {shlex.quote(str(self._folder / 'fetch'))}".replace("%", "%%")
        self.restore_command = f'{command} "%f" "%p"'
        self._lock = threading.Lock()

    def begin(self) -> None:
        """Write the script, and begin to fetch."""
        account = self._cluster.account
        shutil.rmtree(self._folder, ignore_errors=True)  # left by one that was killed
        for folder in (self._folder, self._folder / "ready", self._folder / "failed"):
            make(folder, None, account)
        # Nothing beside the way: another timeline's segment must not take the place of one that is missing.
        strict = self._strict.number
        names = {each.name for each in self._archive.wholes if each.number < strict} | {e.name for e in self._order}
        names |= {f"{each:08X}{HISTORY}" for each in self._archive.histories}
        self._write("names", "".join(f"{name}\n" for name in sorted(names)).encode())
        self._write("fetch", _SCRIPT.format(folder=shlex.quote(str(self._folder)), pid=os.getpid()).encode())
        pipe = self._folder / "asked"
        os.mkfifo(pipe, 0o600)
        self._give(pipe, 0o660)
        self._pipe = os.open(pipe, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        self._ahead(0)
        self._thread = threading.Thread(target=self._listen, name="wal-feed", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Remove all of it; a recovery that asks for more fails."""
        self._done.set()
        if hasattr(self, "_thread"):
            with suppress(OSError):
                os.write(self._pipe, b"\n")
            self._thread.join()
            os.close(self._pipe)
        self._pool.shutdown(cancel_futures=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def finish(self) -> None:
        """Call it when recovery has ended well. Raises AtalaiaError when it has not read all that it should have."""
        self._read_asked()
        if self.target.time or self.target.lsn or self.target.name:
            return  # PostgreSQL itself sees to it that it was reached
        if self._error:
            raise self._error
        reached = max((self._index[name] for name in self._asked if name in self._index), default=-1)
        if self.way and reached < self._index[self.way[-1].name]:
            raise AtalaiaError(
                f"recovery ended before {self.way[-1].name}, the last WAL that is archived",
                f"the WAL before it is not sound; the server's log in {self._cluster.log} says where",
            )

    def explained(self, error: AtalaiaError) -> AtalaiaError:
        """What really was wrong when the recovering server failed with `error`."""
        self._read_asked()
        if isinstance(self._error, AtalaiaError):
            return self._error
        if self.hole and self.hole.name in self._asked:
            return _interrupted(self._archive.server, self.hole, self.target)
        logs = [*self._cluster.log.glob("*.json"), self._cluster.stderr]
        if any(path.is_file() and _ENDED in path.read_text(errors="replace") for path in logs):
            last = self.way[-1] if self.way else None
            name = last.name + (PARTIAL if last in self._archive.partials else "") if last else ""
            until = f", received at {self._archive.received(name).isoformat()}" if name else ""
            return AtalaiaError(
                f"the archived WAL ends at {segment.show(self.end)}{until}, before {targets.describe(self.target)} "
                "was reached",
                "give an earlier target, or none for all that is archived; a time is reached only when something was "
                "committed after it",
            )
        return error

    def _listen(self) -> None:
        poller = select.poll()
        poller.register(self._pipe, select.POLLIN)
        while not self._done.is_set():
            poller.poll(1000)
            self._read_asked()

    def _read_asked(self) -> None:
        with self._lock, suppress(OSError):
            for name in os.read(self._pipe, 65_536).decode(errors="replace").split("\n"):
                if name:
                    self._asked.add(name)
                    self._ask(name)

    def _ask(self, name: str) -> None:
        if name in self._index:
            self._ahead(self._index[name])
        elif segment.is_history(name) or segment.is_segment(name):
            self._fetch(name)

    def _ahead(self, position: int) -> None:
        """Let what comes from `position` on lie ready, and what lies before or far behind be removed."""
        chosen = [each.name for each in self._order[position : position + _AHEAD]]
        for name in [name for name in self._files if name not in chosen and self._files[name].done()]:
            del self._files[name]
            (self._folder / "ready" / name).unlink(missing_ok=True)
        for name in chosen:
            self._fetch(name)

    def _fetch(self, name: str) -> None:
        if name not in self._files and not self._done.is_set():
            self._files[name] = self._pool.submit(self._open, name)

    def _open(self, name: str) -> None:
        try:
            if segment.is_history(name):
                if int(name[:8], 16) in self._archive.histories:
                    self._write(f"ready/{name}", self._archive.read(name))
                return
            each: Segment = segment.parse(name, self._archive.segment_size)
            if each in self._archive.wholes:
                self._write(f"ready/{name}", self._archive.read(name))
            elif each in self._archive.partials:
                data = self._archive.read(name + PARTIAL)
                self._write(f"ready/{name}", data + bytes(self._archive.segment_size - len(data)))
        except Exception as error:  # noqa: BLE001 - whatever it is, recovery must stop and say it
            if (
                segment.is_history(name)
                or segment.parse(name, self._archive.segment_size).number >= self._strict.number
            ):
                self._error = self._error or error
            with suppress(OSError):
                self._write(f"failed/{name}", f"atalaia: {getattr(error, 'what', error)}".encode())

    def _write(self, name: str, data: bytes) -> None:
        path = self._folder / name
        partial = path.with_name(f".{path.name}.partial")
        with partial.open("wb") as file:
            file.write(data)
        self._give(partial, 0o640)
        partial.replace(path)

    def _give(self, path: Path, mode: int) -> None:
        if self._cluster.account:
            os.chown(path, -1, self._cluster.account.gid)
        path.chmod(mode)


@contextmanager
def feeding(
    site: Site, server: str, cluster: Cluster, details: Mapping[str, Any], target: Target, progress: Progress
) -> Iterator[Feed]:
    """Feed the recovery of `cluster`, restored from a physical backup of `server` with these `details`, to `target`.

    Start the server with `feed.restore_command` and `feed.target` within, and call `feed.finish()` when it has been
    promoted.
    An error that the feed knows better takes the place of the one that passes. Raises InputError, up front, for a
    target that the archive does not reach.
    """
    system = str(details["system_identifier"])
    archive = open_archive(site.repository, server, system, site.keyring(), spares=site.copies)
    if archive is None or not (archive.wholes or archive.partials):
        raise InputError(
            f"no WAL of {server} (system {system}) is archived: only the end of the backup itself can be had",
            "leave the target out; `stream = true` in [backups.wal] archives WAL from now on",
        )
    start, stop = segment.lsn(details["start_lsn"]), segment.lsn(details["stop_lsn"])
    own = int(details["timeline"])
    timeline = _timeline(archive, target, own, stop)
    resolved = replace(target, timeline="current" if timeline == own else str(timeline))
    feed = Feed(archive, cluster, timeline, start, stop, resolved)
    if target.time and not feed.hole and idle.after(archive, feed.way, resolved, cluster):
        progress(f"nothing was committed after {targets.describe(target)}: all of the archived WAL is recovered")
        feed.target = target = replace(resolved, time=None, inclusive=True)
    elif dropped := dropping.before(archive, feed.way, resolved, cluster, stop):
        progress(f"a DROP DATABASE is just before {targets.describe(target)}: recovery stops before it removes files")
        feed.target = replace(resolved, time=None, lsn=dropped.lsn, inclusive=False)
        feed.kept = dropped.databases
    if feed.hole and not (target.time or target.lsn or target.name):
        raise _interrupted(server, feed.hole, target)
    if target.lsn and segment.lsn(target.lsn) > feed.end:
        raise InputError(
            f"the archived WAL of {server} ends at {segment.show(feed.end)}, before {targets.describe(target)}"
            + (" (there is later WAL, but some between is missing)" if feed.hole else ""),
            f"give an earlier target; `atalaia backup wal {server}` shows what there is",
        )
    progress(f"recovering to {targets.describe(target)}, along timeline {timeline}")
    try:
        feed.begin()
        try:
            yield feed
        except AtalaiaError as error:
            raise feed.explained(error) from error
    finally:
        feed.close()


def _timeline(archive: Archive, target: Target, own: int, stop: int) -> int:
    known = extent.timelines(archive, own, stop)
    if target.timeline in ("latest", "current"):
        return known[-1] if target.timeline == "latest" else own
    if int(target.timeline) not in known:
        raise InputError(
            f"timeline {target.timeline} does not go on from this backup, which is of timeline {own}",
            f"there are: {', '.join(map(str, known))}",
        )
    return int(target.timeline)


def _interrupted(server: str, hole: Segment, target: Target) -> AtalaiaError:
    return AtalaiaError(
        f"WAL of {server} is missing from {segment.show(hole.start)} on timeline {hole.timeline}: recovery cannot go "
        f"beyond it, to {targets.describe(target)}",
        "give a target before it, or restore a physical backup that was made after it; "
        f"`atalaia backup wal {server}` shows what is missing",
    )
