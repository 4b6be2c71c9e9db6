"""A whole plan at work: its listeners, and a collector for each output, with positions of its own."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol, runtime_checkable

from atalaia.collector.collector import Collector
from atalaia.collector.listeners.opening import Listening
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Output, Plan
from atalaia.collector.showing import KIND, Showing, Taken, View
from atalaia.environment.state import write_atomically

log = logging.getLogger("atalaia.collector")
_RELEASE = 0.5  # seconds between looks at what the spools need not keep any longer


@runtime_checkable
class Ending(Protocol):
    """A listener whose source has an end; `ended`: all of it is in the spool."""

    ended: threading.Event


class Collecting:
    """`run` returns when `stop` was called and what was in flight is settled, or raises what ended a collector.

    An output that is away does not hold the others. What stages and reading count is counted for the first one alone.
    """

    def __init__(
        self,
        plan: Plan,
        on_ready: Callable[[], None] | None = None,
        meters: Meters | None = None,
        view: View | None = None,
    ) -> None:
        """`on_ready` is called once, when the first output was reached. Raises InputError: positions, spools.

        `view`: what is shown of it while it runs.
        """
        self.meters = meters or Meters()
        self._ready = on_ready
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self._files = any(job.listen is None for job in plan.jobs)
        self._listening = Listening(plan, self.meters) if any(job.listen for job in plan.jobs) else None
        self.collectors: list[Collector] = []
        try:
            for output, place in zip(plan.outputs, places(plan), strict=True):
                first = not self.collectors
                # Stages have state: what they wait for, and what they count.
                jobs = tuple(replace(job, stages=copy.deepcopy(job.stages)) for job in plan.jobs)
                own = replace(plan, positions=place, outputs=(output,), jobs=plan.jobs if first else jobs)
                meters = self.meters if first else Meters()
                self.collectors.append(Collector(own, on_ready=self._reached, meters=meters, sent=self.meters))
        except BaseException:
            self._close()
            raise
        self._showing = Showing(plan, self.meters, self.collectors, self._taken, view or View())

    def stop(self) -> None:
        """Ask `run` to end. May be called by a signal's handler."""
        self._stop.set()

    def run(self) -> None:
        """Collect until `stop`, or until one collector fails: then all end, and its error is raised."""
        try:
            self._showing.start()
            if self._listening is not None:
                self._listening.start()
        except BaseException:
            self._showing.stop()
            self._close()
            raise
        threads = [
            threading.Thread(target=self._collect, args=(collector,), name=f"collect {number}")
            for number, collector in enumerate(self.collectors)
        ]
        for thread in threads:
            thread.start()
        try:
            while not self._stop.wait(_RELEASE):
                self._release()
                if self._delivered():
                    break
        finally:
            # What listeners have taken is in the spools then, and is delivered as what stands in files.
            if self._listening is not None:
                self._listening.stop()
            for collector in self.collectors:
                collector.stop()
            for thread in threads:
                thread.join()
            self._showing.stop()
        if self._error is not None:
            raise self._error

    def _collect(self, collector: Collector) -> None:
        try:
            collector.run()
        except BaseException as error:  # noqa: BLE001 - raised by `run`
            with self._lock:
                self._error = self._error or error
            self._stop.set()

    def _taken(self) -> Taken:
        if self._listening is None:
            return {}
        kinds = {name: type(listener).__name__ for name, listener in self._listening.listeners.items()}
        found = self._listening.targets()
        return {name: [{**one, KIND: kinds[name]} for one in targets] for name, targets in found.items()}

    def _reached(self) -> None:
        with self._lock:
            ready, self._ready = self._ready, None
        if ready is not None:
            ready()

    def _release(self) -> None:
        """Tell the spools what every output has."""
        if self._listening is None:
            return
        every = [collector.spooled for collector in self.collectors]
        paths = set.intersection(*(set(one) for one in every))
        least = {path: min(one[path] for one in every) for path in paths}
        if self._listening.ended(least):
            self._stop.set()
        self._listening.release(least)

    def _delivered(self) -> bool:
        """Whether all sources are ones that end, have ended, and every output has what they gave."""
        if self._listening is None or self._files:
            return False
        for name, listener in self._listening.listeners.items():
            if not isinstance(listener, Ending) or not listener.ended.is_set():
                return False
            for path in self._listening.spools[name].directory.glob("*.jsonl"):
                size = path.stat().st_size
                if any(collector.spooled.get(str(path), -1) < size for collector in self.collectors):
                    return False
        return True

    def _close(self) -> None:
        for collector in self.collectors:
            collector.close()
        if self._listening is not None:
            self._listening.stop()


def key_of(output: Output) -> str:
    """What tells an output from the others, whatever their order: its name, or else where it pushes to."""
    return output.name or hashlib.sha256(f"{output.url} {output.tenant or ''}".encode()).hexdigest()[:8]


def places(plan: Plan) -> list[Path]:
    """The positions file of each output: the plan's for one of them, the same with `.KEY` for the others.

    Whose the plan's is stands beside it (`.output`): the order of the clients may change, and new ones may come first.
    """
    if len(plan.outputs) == 1 and plan.outputs[0].trust is not None:
        return [plan.positions]  # an environment's: it has no other
    keys = [key_of(output) for output in plan.outputs]
    owner = _owner(plan.positions)
    if owner not in keys and (owner is None or len(keys) == 1):
        owner = keys[0]
        if _beside(plan.positions, owner).exists():
            owner = None
    if owner is not None and owner != _owner(plan.positions):
        try:
            plan.positions.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(plan.positions.with_name(f"{plan.positions.name}.output"), f"{owner}\n")
        except OSError as error:
            log.warning("event=positions_unwritable file=%s reason=%r", plan.positions, error.strerror)
    return [plan.positions if key == owner else _beside(plan.positions, key) for key in keys]


def _beside(positions: Path, key: str) -> Path:
    return positions.with_name(f"{positions.name}.{key}")


def _owner(positions: Path) -> str | None:
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return positions.with_name(f"{positions.name}.output").read_text(encoding="utf-8").strip()
    return None
