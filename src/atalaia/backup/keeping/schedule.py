"""What runs when: a pure function of the time, the cron expressions (Debian's rules), and what has run."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import islice, pairwise

from cronsim import CronSim

from atalaia.environment.backing import ScheduleSettings
from atalaia.environment.units import parse_duration

BACKUPS = ("logical", "plain", "physical", "incremental")
ATTEMPTS = 3
"""How often a failed run is tried in all, before it waits for its next time."""
INTERRUPTED = 130
"""The exit code of a run that was ended with everything else: it is tried again as soon as there is somebody to."""
_RETRY = timedelta(minutes=5)
# Smaller steps of the clock are left to pass; after a larger one back the schedule goes by the new time.
_STEP = timedelta(minutes=5)
_AHEAD = 12  # times that are looked at for the longest pause between two


@dataclass(frozen=True, slots=True)
class Job:
    """Something that runs again and again: a kind of backup of a server, or `verify` or `prune` of all."""

    task: str
    server: str
    cron: str

    @property
    def name(self) -> str:
        """How it is called where it is kept: `logical/postgres_a`, `prune`."""
        return f"{self.task}/{self.server}" if self.server else self.task


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job, for the time `scheduled`: `code` is its exit code, None while it runs or when nobody saw it.

    `pid` and `pid_started` are those of its process (Process). Times are UTC. `before` is what the run before it failed
    with.
    """

    scheduled: datetime
    started: datetime
    attempt: int = 1
    finished: datetime | None = None
    code: int | None = None
    said: str = ""
    pid: int = 0
    pid_started: int = 0
    before: str = ""

    @property
    def problem(self) -> str:
        """What it failed with, or, while it runs, the one before it; empty when all is well."""
        if self.finished:
            return (self.said or f"exit code {self.code}") if self.code else ""
        return self.before


@dataclass(frozen=True, slots=True)
class Due:
    """When a job starts next: `at`, for the time `scheduled`, as try number `attempt`."""

    job: Job
    scheduled: datetime
    at: datetime
    attempt: int = 1


def jobs(settings: ScheduleSettings, servers: Iterable[str]) -> list[Job]:
    """All jobs: backups of every server, then `verify`, then `prune`."""
    given = {task: getattr(settings, task) for task in (*BACKUPS, "verify", "prune")}
    found = [Job(task, server, given[task]) for server in servers for task in BACKUPS if given[task]]
    return found + [Job(task, "", given[task]) for task in ("verify", "prune") if given[task]]


def next_start(job: Job, seen: datetime, run: Run | None, now: datetime, jitter: timedelta, zone: tzinfo) -> Due | None:
    """When a job is to start; at once when `at` is not after `now`. None: never.

    `seen` is when it was scheduled first, `run` its last run. However many times were slept through, it runs once.
    """
    after = max(seen, run.scheduled) if run else seen
    if after > now + _STEP:
        after = now
    following = tick(job.cron, after, zone)
    start = following + _spread(job, following, jitter) if following else None
    if run and run.finished and run.code and run.code != 2 and run.attempt < ATTEMPTS and (not start or start > now):
        again = min(run.finished, now) + (_RETRY * run.attempt if run.code != INTERRUPTED else timedelta())
        if not start or again < start:
            return Due(job, run.scheduled, again, run.attempt + 1)
    if following is None or start is None:
        return None
    if start <= now:
        return Due(job, max(following, last_tick(job.cron, now, zone) or following), start)
    return Due(job, following, start)


def tick(cron: str, after: datetime, zone: tzinfo) -> datetime | None:
    """The first time of a cron expression after a moment, in UTC; None when there is none in fifty years."""
    found = next(CronSim(cron, after.astimezone(zone)), None)
    return found.astimezone(UTC) if found else None


def last_tick(cron: str, now: datetime, zone: tzinfo) -> datetime | None:
    """The last time of a cron expression that is not after a moment, in UTC."""
    # Backwards, what is given is passed over: begin behind it.
    begin = now + timedelta(seconds=1)
    for found in islice(CronSim(cron, begin.astimezone(zone), reverse=True), 3):
        if (at := found.astimezone(UTC)) <= now:
            return at
    return None


def interval(crons: Sequence[str], now: datetime, zone: tzinfo) -> timedelta | None:
    """The longest pause between two times of the expression that has the shortest such; None without any."""
    pauses = []
    for cron in crons:
        times = [at.astimezone(UTC) for at in islice(CronSim(cron, now.astimezone(zone)), _AHEAD)]
        pauses += [max(later - earlier for earlier, later in pairwise(times))] if len(times) > 1 else []
    return min(pauses, default=None)


def jitter_of(settings: ScheduleSettings) -> timedelta:
    """How far starts are spread."""
    return timedelta(microseconds=parse_duration(settings.jitter) // 1000)


def _spread(job: Job, at: datetime, most: timedelta) -> timedelta:
    """A part of `most` that is the job's own at that time, the same whenever it is asked."""
    digest = hashlib.sha256(f"{job.name} {at.isoformat()}".encode()).digest()
    return most * (int.from_bytes(digest[:4], "big") / (1 << 32))
