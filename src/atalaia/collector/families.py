"""Metrics that a pipeline's `metrics` stages make: label names differ from series to series, and idle series vanish."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import orjson
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from atalaia.store.batch import canonical

log = logging.getLogger("atalaia.collector")
_PRUNED = 60.0  # seconds between looks for idle series while nobody asks for them
Kind: TypeAlias = "Literal['counter', 'gauge', 'histogram']"


@dataclass(frozen=True, slots=True)
class Family:
    """A metric. `idle`: seconds without a change after which a series vanishes; `buckets`: upper bounds, rising."""

    name: str
    kind: Kind
    description: str = ""
    idle: float = 300.0
    buckets: tuple[float, ...] = ()


@dataclass(slots=True)
class _Series:
    labels: dict[str, str]
    changed: float
    value: float = 0.0  # of a histogram: the sum of all observations
    counts: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # int64, of each bucket and beyond


@dataclass(slots=True)
class _Kept:
    family: Family
    series: dict[str, _Series] = field(default_factory=dict)


class Families(Collector):
    """All of them. Any thread may ask; label sets are canonical JSON, as entries have them."""

    def __init__(self, taken: Iterable[str] = (), clock: Callable[[], float] = time.monotonic) -> None:
        """`taken` are names that cannot be used."""
        self._taken = frozenset(taken)
        self._clock = clock
        self._kept: dict[str, _Kept] = {}
        self._refused: set[Family] = set()
        self._pruned = clock()
        self._lock = threading.Lock()

    def add(self, family: Family, labels: str, amount: float) -> None:
        """Change a counter or gauge by an amount."""
        with self._lock:
            if series := self._series(family, labels):
                series.value += amount

    def set(self, family: Family, labels: str, value: float) -> None:
        """Set a gauge."""
        with self._lock:
            if series := self._series(family, labels):
                series.value = value

    def observe(self, family: Family, labels: str, counts: np.ndarray, total: float) -> None:
        """Add observations to a histogram: how many in each bucket and beyond (int64[buckets + 1]), and their sum."""
        with self._lock:
            if series := self._series(family, labels):
                series.counts = series.counts + counts if len(series.counts) else counts
                series.value += total

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        with self._lock:
            self._prune()
            found = [_metric(kept) for kept in self._kept.values() if kept.series]
        return iter(found)

    def describe(self) -> Iterator[Metric]:
        """Nothing is known before entries come."""
        return iter(())

    def _series(self, family: Family, labels: str) -> _Series | None:
        kept = self._kept.setdefault(family.name, _Kept(family))
        same = (family.kind, family.buckets) == (kept.family.kind, kept.family.buckets)
        if not same or family.name in self._taken:
            if family not in self._refused:
                self._refused.add(family)
                log.warning("event=metric_refused metric=%s reason='another metric has this name'", family.name)
            return None
        now = self._clock()
        if now - self._pruned > _PRUNED:
            self._prune()
        found = kept.series.get(labels)
        if found is None:
            # Prometheus keeps names with two underscores to itself.
            named = {name: text for name, text in orjson.loads(labels).items() if not name.startswith("__")}
            labels = canonical(named)
            found = kept.series.setdefault(labels, _Series(named, now))
        found.changed = now
        return found

    def _prune(self) -> None:
        self._pruned = self._clock()
        for kept in self._kept.values():
            for key in [k for k, s in kept.series.items() if self._pruned - s.changed >= kept.family.idle]:
                del kept.series[key]


def _metric(kept: _Kept) -> Metric:
    family = kept.family
    # A counter's name ends with _total for prometheus_client, which would change any other one.
    counter = family.kind == "counter" and family.name.endswith("_total")
    kind = family.kind if counter or family.kind != "counter" else "unknown"
    metric = Metric(family.name.removesuffix("_total") if counter else family.name, family.description, kind)
    for series in kept.series.values():
        if family.kind != "histogram":
            metric.add_sample(family.name, series.labels, series.value)
            continue
        reached = np.cumsum(series.counts).tolist()
        bounds = [repr(bound).removesuffix(".0") for bound in family.buckets]  # as Go writes them: 10, not 10.0
        for bound, count in zip([*bounds, "+Inf"], reached, strict=True):
            metric.add_sample(f"{family.name}_bucket", {**series.labels, "le": bound}, count)
        metric.add_sample(f"{family.name}_sum", series.labels, series.value)
        metric.add_sample(f"{family.name}_count", series.labels, reached[-1])
    return metric
