"""What the schedule has done, kept durably: when each job was scheduled first, and its last run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from atalaia.backup.keeping.schedule import Job, Run
from atalaia.environment.state import write_atomically

_TIMES = ("scheduled", "started", "finished")


@dataclass(frozen=True, slots=True)
class Seen:
    """A job's cron expression, and since when it is that."""

    cron: str
    at: datetime


@dataclass(slots=True)
class Runs:
    """By the jobs' names. `port`: where metrics were served last; 0 for nowhere. `problem`: why the file is not."""

    seen: dict[str, Seen] = field(default_factory=dict)
    last: dict[str, Run] = field(default_factory=dict)
    port: int = 0
    problem: str = ""

    def since(self, job: Job, now: datetime) -> datetime:
        """Since when a job is scheduled as it is: now, when it was not yet seen so."""
        seen = self.seen.get(job.name)
        return seen.at if seen and seen.cron == job.cron else now

    def notice(self, jobs: list[Job], now: datetime) -> None:
        """Remember jobs that are new or have another expression, forget those that are no more."""
        self.seen = {job.name: Seen(job.cron, self.since(job, now)) for job in jobs}
        self.last = {name: run for name, run in self.last.items() if name in self.seen or not run.finished}


def read(path: Path) -> Runs:
    """What was written; nothing when there is none, or when it is damaged: then `problem` says so."""
    try:
        data = json.loads(path.read_text())
        seen = {name: Seen(one["cron"], datetime.fromisoformat(one["at"])) for name, one in data["seen"].items()}
        return Runs(seen, {name: _run(one) for name, one in data["last"].items()}, int(data["port"]))
    except FileNotFoundError:
        return Runs()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return Runs(problem=f"{path} cannot be read ({error or type(error).__name__})")


def write(path: Path, runs: Runs) -> None:
    """Replace the file, durably. Raises OSError."""
    data = {
        "seen": {name: {"cron": one.cron, "at": one.at.isoformat()} for name, one in runs.seen.items()},
        "last": {name: _plain(run) for name, run in runs.last.items()},
        "port": runs.port,
    }
    write_atomically(path, json.dumps(data, indent=2, sort_keys=True) + "\n", mode=0o600)


def _plain(run: Run) -> dict[str, Any]:
    values = asdict(run)
    return values | {name: values[name].isoformat() if values[name] else None for name in _TIMES}


def _run(values: Mapping[str, Any]) -> Run:
    times = {name: datetime.fromisoformat(values[name]) if values[name] else None for name in _TIMES}
    return Run(**{**values, **times})
