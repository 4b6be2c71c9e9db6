"""What a collector at work shows of itself: its HTTP server, its files' lag as metrics, the state file for `status`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from atalaia.collector.lagging import FileLag, Lagging, Standing
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Job, Plan
from atalaia.collector.server import CollectorServer, TargetState
from atalaia.collector.statefile import StateFile, summed

_EVERY = 1.0  # seconds between two looks at the files
_SHARE = 300  # a look may take one of so many parts of the time
_GOOD = ("listening", "following", "reading")
KIND = "__kind__"
"""In what a listener tells of a target: what kind of source it is."""
Taken = Mapping[str, Sequence[Mapping[str, str]]]


class Reading(Protocol):
    """A collector (collector.Collector): one output's place in each file."""

    def standing(self) -> list[Standing]:
        """The files that are read now. May be called from any thread."""


@dataclass(frozen=True, slots=True)
class View:
    """What is shown beyond the plan: the `config` as text without secrets; `state`: where the state file is kept.

    `reload` is what POST /reload does.
    """

    config: str = ""
    state: Path | None = None
    reload: Callable[[], None] | None = None


class Showing:
    """Runs in threads of its own between `start` and `stop`."""

    def __init__(
        self, plan: Plan, meters: Meters, readers: Sequence[Reading], taken: Callable[[], Taken], view: View
    ) -> None:
        """`readers`: one an output, in the plan's order. `taken`: what each listening job takes from."""
        self._plan, self._meters, self._readers, self._taken = plan, meters, readers, taken
        self._lagging = [Lagging() for _ in readers]
        self._file = StateFile(view.state) if view.state is not None else None
        self._gauges: dict[str, FileLag] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="showing", daemon=True)
        self._server = (
            CollectorServer(plan.server, meters, self.targets, view.config, view.reload) if plan.server else None
        )

    def start(self) -> None:
        """Raises InputError when the server's address cannot be had."""
        if self._server is not None:
            self._server.start()
        self._thread.start()

    def stop(self) -> None:
        """End both; the state file is removed."""
        self._stop.set()
        if self._server is not None:
            self._server.stop()
        if self._thread.is_alive():
            self._thread.join(10)
        if self._file is not None:
            self._file.remove()

    def _loop(self) -> None:
        cost = 0.0
        while not self._stop.wait(max(_EVERY, _SHARE * cost)):
            began = time.monotonic()
            self.look()
            cost = time.monotonic() - began

    def look(self) -> None:
        """Bring the metrics and the state file up to date."""
        lags = [lagging.look(reader.standing()) for lagging, reader in zip(self._lagging, self._readers, strict=True)]
        if self._file is not None:
            named = zip(self._plan.outputs, lags, strict=True)
            self._file.write([summed(output.name or output.base, found) for output, found in named])
        worst: dict[str, FileLag] = {}
        for lag in (lag for found in lags for lag in found):
            if lag.path not in worst or lag.behind > worst[lag.path].behind:
                worst[lag.path] = lag
        for path in self._gauges.keys() - worst.keys():
            self._meters.gone(path)
        for path, lag in worst.items():
            if lag != self._gauges.get(path):
                self._meters.set("promtail_file_bytes_total", lag.size, path=path)
                self._meters.set("promtail_file_lag_bytes", lag.behind, path=path)
                self._meters.set("promtail_file_lag_seconds", lag.seconds, path=path)
        self._gauges = worst
        self._meters.set("promtail_files_active_total", len(worst))
        self._meters.set("promtail_targets_active_total", sum(one.ready for one in self.targets(details=False)))

    def targets(self, details: bool = True) -> list[TargetState]:
        """What each job reads; `details`: each file and up to where the first output has it."""
        standing = self._readers[0].standing() if self._readers else []
        by_job: dict[str, list[Standing]] = {}
        for file in standing:
            by_job.setdefault(file.job, []).append(file)
        taken = self._taken()
        found: list[TargetState] = []
        for job in self._plan.jobs:
            if job.listen is not None:
                found += [_listening(job, labels) for labels in taken.get(job.name, ())]
            else:
                found += _reading(job, by_job.get(job.name, []), details)
        return found


def _listening(job: Job, labels: Mapping[str, str]) -> TargetState:
    shown = {name: value for name, value in labels.items() if name != "state" and not name.startswith("__")}
    discovered = {name: value for name, value in labels.items() if name not in ("state", KIND)}
    state = labels.get("state", "")
    return TargetState(job.name, labels.get(KIND, "Listener"), state in _GOOD, shown, {"state": state}, discovered)


def _reading(job: Job, files: Sequence[Standing], details: bool) -> list[TargetState]:
    """A job's targets. A file belongs to the first one that names it; without `details` to all."""
    targets = list(job.targets)
    if not details:
        return [TargetState(job.name, "File", bool(files), target.labels) for target in targets]
    left, found = list(files), []
    for target in targets:
        own = [file for file in left if target.names(file.path)]
        paths = {file.path for file in own}
        left = [file for file in left if file.path not in paths]
        discovered = {**target.labels, "__path__": target.pattern}
        if target.exclude:
            discovered["__path_exclude__"] = target.exclude
        shown = {file.path: str(file.offset) for file in own} if details else {}
        found.append(TargetState(job.name, "File", bool(own), target.labels, shown, discovered))
    return found
