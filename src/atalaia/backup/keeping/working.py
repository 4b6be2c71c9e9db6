"""The backup service's scheduled work: each run is a process of its own, one at a time for a server."""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from atalaia.backup import catalogue
from atalaia.backup.keeping import runs
from atalaia.backup.keeping.schedule import INTERRUPTED, Due, Job, Run, jitter_of, jobs, next_start
from atalaia.backup.model import logfmt
from atalaia.environment.errors import AtalaiaError
from atalaia.environment.load import Environment
from atalaia.postgres import control
from atalaia.postgres.cluster import Cluster
from atalaia.runtime import process as processes
from atalaia.runtime.process import Process
from atalaia.runtime.zone import local_zone

_log = logging.getLogger("atalaia.backup")
# SIGINT is Ctrl-C: what was begun is removed, temporary servers too.
_STOP = ((signal.SIGINT, 20.0), (signal.SIGKILL, 5.0))
_SERVER_PATIENCE = timedelta(minutes=2)  # that a server may take to start before its backup is tried all the same


class Working:
    """Starts what is due and notes how it ended. Its methods are called from one thread."""

    def __init__(self, environment: Environment, clusters: Mapping[str, Cluster]) -> None:
        """Take over what an earlier service left running."""
        self._environment, self._clusters = environment, clusters
        self._path = environment.state.backup_runs
        self._began = datetime.now(UTC)
        self._zone = local_zone()
        settings = environment.settings.backups.schedule
        self._jitter = jitter_of(settings)
        self.jobs = jobs(settings, clusters)
        self._known = runs.read(self._path)
        if self._known.problem:
            _log.error(logfmt("schedule_lost", problem=self._known.problem))
            self._known = runs.Runs()
        self._known.notice(self.jobs, self._began)
        self.running: dict[str, tuple[Job, Process]] = {}
        self._adopt()
        self._save()

    @property
    def port(self) -> int:
        """Where metrics were served last."""
        return self._known.port

    def listened(self, port: int) -> None:
        """Note where metrics are served."""
        self._known.port = port
        self._save()

    def step(self, now: datetime) -> float:
        """Note what has ended, start what is due; seconds until there may be something to do again."""
        for name, (job, process) in list(self.running.items()):
            if process.wait(0):
                self._ended(name, job, process.reap(), now)
        wait = timedelta(hours=1)
        for job in self.jobs:
            due = next_start(
                job, self._known.since(job, now), self._known.last.get(job.name), now, self._jitter, self._zone
            )
            if job.name in self.running or due is None:
                continue
            if due.at > now:
                wait = min(wait, due.at - now)
            elif not self._busy(job) and self._reachable(job, now):
                self._start(due, now)
            else:
                wait = min(wait, timedelta(seconds=1))
        return wait.total_seconds()

    def stop(self) -> None:
        """Interrupt what runs, and note it."""
        for _, process in self.running.values():
            process.send(signal.SIGINT)
        for name, (job, process) in list(self.running.items()):
            for number, seconds in _STOP:
                process.send(number)
                if process.wait(seconds):
                    break
            code = process.reap()
            said = "" if code == 0 else "it was interrupted when the environment was stopped"
            self._ended(name, job, INTERRUPTED if code is None else code, datetime.now(UTC), said)

    def _busy(self, job: Job) -> bool:
        return any(other.server == job.server for other, _ in self.running.values())

    def _reachable(self, job: Job, now: datetime) -> bool:
        """Whether the server takes connections, which may take a while after a start of everything."""
        cluster = self._clusters.get(job.server)
        waited = now - self._began
        return cluster is None or not timedelta(0) <= waited < _SERVER_PATIENCE or control.accepting(cluster)

    def _start(self, due: Due, now: datetime) -> None:
        job = due.job
        output = self._output(job)
        output.unlink(missing_ok=True)
        arguments = [sys.executable, "-m", "atalaia", "backup", *_command(job), "--file", str(self._environment.file)]
        last = self._known.last.get(job.name)
        run = Run(due.scheduled, now, due.attempt, before=last.problem if last else "")
        try:
            process = processes.start(arguments, output=output, folder=self._environment.folder)
        except AtalaiaError as error:
            self._note(job, replace(run, finished=now, code=1, said=error.what))
            return
        self.running[job.name] = (job, process)
        self._known.last[job.name] = replace(run, pid=process.pid, pid_started=process.started)
        self._save()
        late = max(0.0, (now - due.scheduled).total_seconds())
        _log.info(
            logfmt(
                "run_started",
                task=job.task,
                server=job.server or "all",
                scheduled=due.scheduled.isoformat(),
                late_seconds=f"{late:.0f}",
                attempt=due.attempt,
                pid=process.pid,
            )
        )

    def _ended(self, name: str, job: Job, code: int | None, now: datetime, said: str = "") -> None:
        del self.running[name]
        run = self._known.last[name]
        if code is None:
            code = self._judge(job, run)
        if code:
            said = said or _last_words(self._output(job)) or f"exit code {code}"
        self._note(job, replace(run, finished=now, code=code, said=said))

    def _note(self, job: Job, run: Run) -> None:
        self._known.last[job.name] = run
        self._save()
        tell = _log.error if run.code else _log.info
        fields = {"task": job.task, "server": job.server or "all", "code": run.code, "attempt": run.attempt}
        seconds = f"{max(0.0, ((run.finished or run.started) - run.started).total_seconds()):.1f}"
        said = {"problem": run.said} if run.said else {}
        tell(logfmt("run_failed" if run.code else "run_ended", **fields, seconds=seconds, **said))

    def _adopt(self) -> None:
        for job in self.jobs:
            run = self._known.last.get(job.name)
            if run is None or run.finished:
                continue
            process = Process(run.pid, run.pid_started)
            self.running[job.name] = (job, process)
            if process.alive():
                _log.info(logfmt("run_adopted", task=job.task, server=job.server or "all", pid=run.pid))
        # A run whose job is no more ends by itself.
        names = {job.name for job in self.jobs}
        self._known.last = {name: run for name, run in self._known.last.items() if name in names}

    def _judge(self, job: Job, run: Run) -> int | None:
        """How a run went whose end nobody saw: a backup is in the catalogue; of others nothing is known."""
        if not job.server:
            return None
        try:
            found = catalogue.list_backups(self._environment.state.backup_catalogue)
        except AtalaiaError:
            return None
        return 0 if any(b.server == job.server and b.started >= run.started and b.usable for b in found) else 1

    def _output(self, job: Job) -> Path:
        return self._environment.state.own_logs / f"backup-{job.name.replace('/', '-')}.err"

    def _save(self) -> None:
        # With a full disk the schedule goes on by what is in memory.
        with contextlib.suppress(OSError):
            runs.write(self._path, self._known)


def _command(job: Job) -> list[str]:
    if not job.server:
        return [job.task]
    if job.task == "incremental":
        return ["now", job.server, "--kind", "physical", "--incremental"]
    return ["now", job.server, "--kind", job.task]


def _last_words(path: Path) -> str:
    """What the program said of why it failed: its message, else its last line."""
    try:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    said = [line for line in lines if line.startswith("atalaia: ")]
    return (said or lines or [""])[-1].removeprefix("atalaia: ")[:500]
