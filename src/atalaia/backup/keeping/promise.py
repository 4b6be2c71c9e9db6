"""Alarm by absence: whether backups are as they were promised. A pure function; silence is an alarm."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from datetime import timedelta

from atalaia.backup.keeping.facts import Facts, Reason, Streaming
from atalaia.backup.keeping.retention import FAILED_FOR, half_gone
from atalaia.backup.keeping.schedule import BACKUPS
from atalaia.backup.model import Backup, State
from atalaia.environment.units import parse_duration, show_size

# Backups of a moment further ahead than this prove nothing: the clock was wrong, now or then.
_AHEAD = timedelta(days=1)
_BEFORE = 5  # backups whose median the newest is compared with
_LEAST = 2  # of them, before anything is said
_SMALL = 1 << 20  # bytes; a smaller change of size is none


def judge(facts: Facts) -> list[Reason]:
    """All that is red, empty when backups are as promised."""
    if facts.problem:
        return [facts.problem]
    found = list(facts.checked)
    if facts.settings.service and not facts.service:
        found.append(
            Reason(
                "service", "", "backups are scheduled or streamed, and their service does not run", "run `atalaia up`"
            )
        )
    servers: list[Callable[[Facts, str], Iterator[Reason]]] = [_copies]
    if facts.watched:
        servers = [_age, _ended, _changed, _runs, _wal, _copies]
    found += [reason for server in facts.servers for look in servers for reason in look(facts, server)]
    return [*found, *_common_runs(facts)]


def newest_verified(facts: Facts, server: str) -> Backup | None:
    """The newest verified backup of a server that is not of the future."""
    good = [b for b in _own(facts, server) if b.state is State.VERIFIED and b.started <= facts.now + _AHEAD]
    return max(good, key=lambda backup: (backup.started, backup.id), default=None)


def show_age(age: timedelta) -> str:
    """An age for people: `3 d 4 h`, `25 min`, `50 s`; never less than nothing."""
    seconds = max(0, round(age.total_seconds()))
    if seconds < 120:
        return f"{seconds} s"
    minutes = round(seconds / 60)
    hours, days = minutes // 60, minutes // 1440
    return f"{days} d {hours % 24} h" if days else f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"


def _own(facts: Facts, server: str) -> list[Backup]:
    return [backup for backup in facts.backups if backup.server == server]


def _age(facts: Facts, server: str) -> Iterator[Reason]:
    own = _own(facts, server)
    newest = newest_verified(facts, server)
    remedy = f"`atalaia backup now {server}` makes one and proves it"
    if newest is None:
        yield Reason("verified", server, "no backup was ever verified" if own else "it was never backed up", remedy)
    elif facts.promised is not None and (age := facts.now - newest.started) > facts.promised:
        what = f"is {show_age(age)} old, promised are {show_age(facts.promised)}"
        yield Reason("verified", server, f"the newest verified backup, {newest.id}, {what}", remedy)
    else:
        return
    ahead = [backup.id for backup in own if backup.usable and backup.started > facts.now + _AHEAD]
    if ahead:
        text = f"{ahead[-1]} is from the future and proves nothing: the clock is wrong, or was"
        yield Reason("clock", server, text, "see that the clock is right")


def _ended(facts: Facts, server: str) -> Iterator[Reason]:
    """The newest of each kind that has ended must not have failed; for a while also of a kind that is made no more."""
    scheduled = {
        "physical" if task == "incremental" else task for task in BACKUPS if getattr(facts.settings.schedule, task)
    }
    used = scheduled or {facts.settings.kind}
    newest = {b.kind: b for b in _own(facts, server) if b.state is not State.RUNNING and not half_gone(b)}
    for backup in newest.values():
        if backup.state is State.FAILED and (backup.kind in used or facts.now - backup.started <= FAILED_FOR):
            remedy = f"put it right, then `atalaia backup now {server}`"
            yield Reason(
                "failed", server, f"the last {backup.kind} backup, {backup.id}, failed: {backup.error}", remedy
            )


def _changed(facts: Facts, server: str) -> Iterator[Reason]:
    """The newest of each kind against the median of those before it; incremental ones differ by their nature."""
    most = facts.settings.promise.change
    kinds: dict[str, list[Backup]] = {}
    for backup in _own(facts, server):
        if most and backup.usable and not backup.parent and backup.raw_size:
            kinds.setdefault(backup.kind, []).append(backup)
    for *before, newest in kinds.values():
        if len(before) < _LEAST:
            continue
        usual = statistics.median(backup.raw_size for backup in before[-_BEFORE:])
        change = newest.raw_size - usual
        if abs(change) > max(_SMALL, usual * most / 100):
            percent = f"{abs(change) * 100 / usual:.0f} %" if usual else "from nothing"
            yield Reason(
                "change",
                server,
                f"{newest.id} {'grew' if change > 0 else 'shrank'} by {percent}: {show_size(newest.raw_size)} of data, "
                f"the ones before it had {show_size(usual)}",
                "see whether data was lost, or came; when it is right, it passes with the next backups "
                "([backups.promise] change)",
            )


def _runs(facts: Facts, server: str) -> Iterator[Reason]:
    for job in facts.jobs:
        run = facts.runs.get(job.name)
        if job.server == server and run and run.problem:
            # A backup that failed tells so itself; here are those that never were one.
            told = any(b.started >= run.started and b.state is State.FAILED for b in _own(facts, job.server))
            if not told:
                yield _run(job.task, server, run.problem, f"put it right, then `atalaia backup now {server}`")


def _common_runs(facts: Facts) -> Iterator[Reason]:
    for job in facts.jobs:
        run = facts.runs.get(job.name)
        if not job.server and run and run.problem:
            yield _run(job.task, "", run.problem, f"put it right, then `atalaia backup {job.task}`")


def _run(task: str, server: str, said: str, remedy: str) -> Reason:
    return Reason("run", server, f"the last scheduled {task} failed: {said}", remedy)


def _copies(facts: Facts, server: str) -> Iterator[Reason]:
    """Each further repository has the newest usable backup of each kind, and none was found damaged."""
    newest = {backup.kind: backup for backup in _own(facts, server) if backup.usable}
    for backup in newest.values():
        there = {copy.repository: copy.problem for copy in backup.copies}
        troubled = (copy.repository for copy in backup.copies if copy.problem)
        for repository in dict.fromkeys((*facts.copies, *troubled)):
            # While its restore test or its copy is under way, that it is not there yet is as it should be.
            problem = there.get(repository, "" if server in facts.busy else "it was not copied")
            if problem:
                remedy = f"`atalaia backup copy {backup.id}` tries again"
                yield Reason("copy", server, f"{backup.id} is not in {repository}: {problem}", remedy)


def _wal(facts: Facts, server: str) -> Iterator[Reason]:
    if not facts.settings.wal.stream:
        if facts.settings.promise.wal:
            remedy = "set `stream = true` in [backups.wal], or leave `wal` out of [backups.promise]"
            yield Reason("wal", server, "WAL is promised, and it is not streamed", remedy)
        return
    seen = facts.wal.get(server, Streaming())
    for hole in seen.interruptions:
        yield Reason("wal", server, hole, f"`atalaia backup now {server}` begins anew, `atalaia backup wal` says more")
    if seen.problem:
        yield Reason("wal", server, seen.problem, seen.remedy or "`atalaia backup wal` says more")
    promised = facts.settings.promise.wal
    if not promised:
        return
    most = timedelta(microseconds=parse_duration(promised) // 1000)
    if seen.covered is None:
        yield Reason("wal", server, "no WAL was ever archived", "`atalaia backup wal` says why")
    elif (age := facts.now - seen.covered) > most:
        text = f"the newest archived WAL is {show_age(age)} old, promised are {show_age(most)}"
        yield Reason("wal", server, text, "`atalaia backup wal` says why")
