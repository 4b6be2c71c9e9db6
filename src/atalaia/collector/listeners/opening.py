"""The listeners of a plan: opened with their spools, started, stopped, and their spools shortened."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from atalaia.collector.listeners.listener import Listener, Opener
from atalaia.collector.listeners.spool import Spool
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Job, Plan, Target


def spool_directory(positions: Path, job: str) -> Path:
    """Where a job's spool is: beside the positions file, a folder a job."""
    plain = re.sub(r"[^A-Za-z0-9_.-]", "_", job)[:80]
    if plain != job or plain.startswith("."):
        plain = f"{plain.lstrip('.')}-{hashlib.sha256(job.encode()).hexdigest()[:8]}"
    return positions.with_name(f"{positions.name}.spool") / plain


def listening(job: Job, opener: Opener, positions: Path) -> Job:
    """The job as one that reads what `opener`'s listener receives. Entries without any label get the job's name."""
    pattern = str(spool_directory(positions, job.name) / "*.jsonl")
    pattern = re.sub(r"([*?\[])", r"[\1]", pattern[: -len("*.jsonl")]) + "*.jsonl"
    return replace(job, targets=(Target(pattern, {"job": job.name}),), format="spool", filename=False, listen=opener)


class Listening:
    """All listeners of a plan, each with its spool."""

    def __init__(self, plan: Plan, meters: Meters) -> None:
        """Open the spools. Raises InputError."""
        self.spools: dict[str, Spool] = {}
        self.listeners: dict[str, Listener] = {}
        try:
            for job in plan.jobs:
                if job.listen is not None:
                    place = spool_directory(plan.positions, job.name)
                    self.spools[job.name] = Spool(place, job.name, job.relabel, plan.spool_size)
                    self.listeners[job.name] = job.listen(self.spools[job.name], meters)
        except BaseException:
            self._close()
            raise

    def start(self) -> None:
        """Start all; raises InputError, with none left running, when one cannot."""
        started: list[Listener] = []
        try:
            for listener in self.listeners.values():
                listener.start()
                started.append(listener)
        except BaseException:
            for listener in started:
                listener.stop()
            self._close()
            raise

    def release(self, acknowledged: Mapping[str, int]) -> None:
        """Delete what every output has: `acknowledged` is the least acknowledged offset by path."""
        for spool in self.spools.values():
            spool.release(acknowledged)

    def ended(self, acknowledged: Mapping[str, int]) -> bool:
        """Whether nothing will come any more (standard input is at its end) and every output has all of it."""
        endings = [getattr(listener, "ended", None) for listener in self.listeners.values()]
        over = bool(endings) and all(ending is not None and ending.is_set() for ending in endings)
        return over and all(spool.drained(acknowledged) for spool in self.spools.values())

    def targets(self) -> Mapping[str, Sequence[Mapping[str, str]]]:
        """What each job takes from now."""
        return {name: listener.targets() for name, listener in self.listeners.items()}

    def stop(self) -> None:
        """Stop all; what was received is in the spools, on disk, when this returns."""
        for listener in self.listeners.values():
            listener.stop()
        self._close()

    def _close(self) -> None:
        for spool in self.spools.values():
            spool.close()
