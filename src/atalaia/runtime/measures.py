"""Counters and histograms of a process, and how Prometheus reads them.

The formats: Prometheus' text format 0.0.4 and OpenMetrics 1.0.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

Labels = tuple[str, ...]
_MOST_SERIES = 10_000  # of one measure; what comes beyond is counted together
_REST = "(others)"


@dataclass(frozen=True, slots=True)
class Sample:
    """One number: `suffix` is added to the family's name."""

    value: float
    labels: tuple[tuple[str, str], ...] = ()
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """The samples of one name. A counter's name ends in _total."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    samples: Sequence[Sample] = field(default_factory=tuple)


class Counter:
    """A number that grows, for each set of labels."""

    def __init__(self, name: str, text: str, labels: Labels = (), gauge: bool = False) -> None:
        """`gauge`: it may also fall."""
        self._family = name, text, gauge
        self._labels = labels
        self._values: dict[Labels, float] = {}
        self._guard = threading.Lock()

    def add(self, amount: float, *labels: str) -> None:
        """Count `amount` more."""
        with self._guard:
            key = _bounded(self._values, labels)
            self._values[key] = self._values.get(key, 0) + amount

    def family(self) -> Family:
        """What was counted until now."""
        name, text, gauge = self._family
        with self._guard:
            values = list(self._values.items())
        samples = [Sample(value, tuple(zip(self._labels, key, strict=True))) for key, value in values]
        return Family(name, "gauge" if gauge else "counter", text, samples)


class Histogram:
    """How many measured values were up to each of some bounds, for each set of labels."""

    def __init__(self, name: str, text: str, bounds: Sequence[float], labels: Labels = ()) -> None:
        self._family = name, text
        self._labels = labels
        self._bounds = tuple(bounds)
        self._counts: dict[Labels, list[int]] = {}
        self._sums: dict[Labels, float] = {}
        self._guard = threading.Lock()

    def observe(self, value: float, *labels: str) -> None:
        """Count one value."""
        at = bisect_left(self._bounds, value)
        with self._guard:
            key = _bounded(self._counts, labels)
            self._counts.setdefault(key, [0] * (len(self._bounds) + 1))[at] += 1
            self._sums[key] = self._sums.get(key, 0.0) + value

    def family(self) -> Family:
        """What was measured until now."""
        with self._guard:
            found = [(key, list(counts), self._sums[key]) for key, counts in self._counts.items()]
        samples = []
        for key, counts, total in found:
            labels, passed = tuple(zip(self._labels, key, strict=True)), 0
            for bound, count in zip((*self._bounds, float("inf")), counts, strict=True):
                passed += count
                samples.append(Sample(passed, (*labels, ("le", _number(bound))), "_bucket"))
            samples += [Sample(passed, labels, "_count"), Sample(total, labels, "_sum")]
        return Family(self._family[0], "histogram", self._family[1], samples)


def _bounded(known: dict[Labels, object] | dict[Labels, float] | dict[Labels, list[int]], labels: Labels) -> Labels:
    return labels if labels in known or len(known) < _MOST_SERIES else (_REST,) * len(labels)


def render(families: Iterable[Family], open_metrics: bool = False) -> str:
    """The text that Prometheus scrapes. Families without samples are left out."""
    lines = []
    for family in families:
        if not family.samples:
            continue
        # OpenMetrics names a counter without the _total of its sample.
        name = family.name.removesuffix("_total") if open_metrics and family.kind == "counter" else family.name
        lines += [f"# HELP {name} {_escaped(family.help)}", f"# TYPE {name} {family.kind}"]
        for sample in family.samples:
            labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels)
            lines.append(f"{family.name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {_number(sample.value)}")
    return "\n".join([*lines, *(["# EOF"] if open_metrics else []), ""])


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _number(value: float) -> str:
    if value == float("inf"):
        return "+Inf"
    return str(value) if isinstance(value, int) else repr(value)
