"""What each stage does to each entry, for people who write a pipeline (`--inspect`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from atalaia.collector.entries import Entries, LabelValue, column
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Job
from atalaia.collector.stages.match import Match
from atalaia.collector.stages.stage import Stage, Waiting


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that a stage changed: `what` is time, line, or label, extracted, metadata with a `name`.

    None for `before` or `after`: it was not there, or is not there any more. `what` "dropped" and "joined" end an
    entry; a joined one is part of the entry before it from there.
    """

    what: str
    name: str = ""
    before: str | int | None = None
    after: str | int | None = None


@dataclass(slots=True)
class Inspected:
    """One entry as it came, and each stage's name and changes. `last`: the last line of the block it is made of."""

    ts: int
    labels: Mapping[str, str]
    line: str
    last: int
    steps: list[tuple[str, list[Change]]] = field(default_factory=list)


class Inspection:
    """Watches the stages of jobs; `told` gets each entry once its lines are taken for good, in the file's order."""

    def __init__(self, told: Callable[[Inspected], None]) -> None:
        self._told = told
        self._entries: dict[int, Inspected] = {}  # of the block in hand, by their first lines

    def job(self, job: Job) -> Job:
        """The job with its stages watched."""
        watched = [_Watched.of(stage, self) for stage in job.stages]
        return replace(job, stages=(_Ends("first", self._begin), *watched, _Ends("last", self._end)))

    def _begin(self, entries: Entries) -> Entries:
        lines, last = entries.lines.to_pylist(), entries.last_lines.tolist()
        labels = _rows(entries.labels, len(entries))
        firsts = entries.first_lines.tolist()
        self._entries = {
            first: Inspected(int(entries.ts[row]), labels[row], lines[row], last[row])
            for row, first in enumerate(firsts)
        }
        return entries

    def _end(self, entries: Entries) -> Entries:
        known = [self._entries[first] for first in sorted(self._entries)]

        def tell(_: Meters, taken: np.ndarray) -> None:
            for row in np.flatnonzero(taken):
                self._told(known[int(row)])

        return entries.later(np.array([one.last for one in known], np.int64), tell) if known else entries

    def watch(self, stage: Stage, before: Entries) -> Entries:
        """The entries behind a stage; what it changed is noted."""
        after = stage(before)
        old, new = before.first_lines.tolist(), after.first_lines.tolist()
        rows = {first: row for row, first in enumerate(old)}
        then, now = _Columns(before), _Columns(after)
        for first in old:
            self._entries[first].steps.append((stage.name, []))
        for row, first in enumerate(new):
            if first in rows:
                self._entries[first].steps[-1][1].extend(_changes(then, rows[first], now, row))
                self._entries[first].last = int(after.last_lines[row])
        spans = sorted(zip(new, after.last_lines.tolist(), strict=True))
        for first in set(old) - set(new):
            if after.held is None or first < after.held:
                joined = any(start < first <= end for start, end in spans)
                self._entries[first].steps[-1][1].append(Change("joined" if joined else "dropped"))
        return after

    def watch_inside(self, stage: Stage, before: Entries) -> Entries:
        """The entries behind a stage whose own stages are watched; it is told only where none of them worked."""
        here = [self._entries[first] for first in before.first_lines.tolist()]
        counts = [len(one.steps) for one in here]
        after = stage(before)
        for one, count in zip(here, counts, strict=True):
            if len(one.steps) == count:
                one.steps.append((stage.name, []))
        return after


class _Columns:
    """The columns of entries as Python's lists, made when they are asked for."""

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._made: dict[tuple[str, str], Sequence[Any]] = {}

    def of(self, what: str, name: str = "") -> Sequence[Any]:
        if (what, name) not in self._made:
            found = self._entries.lines if what == "line" else self.named(what).get(name)
            self._made[what, name] = column(found, len(self._entries)).to_pylist()
        return self._made[what, name]

    def named(self, what: str) -> Mapping[str, LabelValue]:
        found: Mapping[str, Mapping[str, LabelValue]] = {
            "label": self._entries.labels,
            "extracted": self._entries.extracted,
            "metadata": self._entries.metadata,
        }
        return found[what]

    def time(self, row: int) -> int:
        return int(self._entries.ts[row])


def _changes(then: _Columns, before: int, now: _Columns, after: int) -> list[Change]:
    found = []
    for what in ("extracted", "label", "metadata"):
        for name in sorted({*then.named(what), *now.named(what)}):
            old, new = then.of(what, name)[before], now.of(what, name)[after]
            if old != new:
                found.append(Change(what, name, old, new))
    if then.time(before) != now.time(after):
        found.append(Change("time", "", then.time(before), now.time(after)))
    if (old := then.of("line")[before]) != (new := now.of("line")[after]):
        found.append(Change("line", "", old, new))
    return found


def _rows(values: Mapping[str, LabelValue], count: int) -> list[dict[str, str]]:
    lists = {name: column(value, count).to_pylist() for name, value in values.items()}
    return [{name: given[row] for name, given in lists.items() if given[row] is not None} for row in range(count)]


@dataclass(frozen=True, slots=True)
class _Ends:
    """Where a pipeline begins and ends."""

    name: str
    do: Callable[[Entries], Entries]

    def reads(self) -> None:
        """See Stage: all that is there is shown."""

    def __call__(self, entries: Entries) -> Entries:
        """See Stage."""
        return self.do(entries)


@dataclass(frozen=True, slots=True)
class _Watched:
    """A stage that is watched."""

    stage: Stage
    inspection: Inspection

    @classmethod
    def of(cls, stage: Stage, inspection: Inspection) -> Stage:
        """The stage, watched; what waits for further lines still does."""
        if isinstance(stage, Match) and stage.stages:
            stage = replace(stage, stages=tuple(cls.of(inner, inspection) for inner in stage.stages))
        return _WatchedWaiting(stage, inspection, stage.wait) if isinstance(stage, Waiting) else cls(stage, inspection)

    @property
    def name(self) -> str:
        """See Stage."""
        return self.stage.name

    def reads(self) -> frozenset[str] | None:
        """See Stage."""
        return self.stage.reads()

    def __call__(self, entries: Entries) -> Entries:
        """See Stage."""
        if isinstance(self.stage, Match) and self.stage.stages:
            return self.inspection.watch_inside(self.stage, entries)
        return self.inspection.watch(self.stage, entries)


@dataclass(frozen=True, slots=True)
class _WatchedWaiting(_Watched):
    wait: float
