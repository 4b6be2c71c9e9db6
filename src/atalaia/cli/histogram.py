"""Series sketched with characters: bars over time, a line of sparks for each of many."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atalaia.cli.labels import spelled
from atalaia.cli.moments import show_short
from atalaia.cli.output import columns
from atalaia.cli.severity import SEVERITIES, code_of, coloured, severity_of_labels

_WIDTH = 40
_SPARKS = "▁▂▃▄▅▆▇█"
_EIGHTHS = " ▏▎▍▌▋▊▉"
_S = 10**9
_STEPS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400, 604800)
_BARS = 40


@dataclass(frozen=True, slots=True)
class Series:
    """Samples by time (ns); a moment without one is not there."""

    labels: Mapping[str, str]
    samples: Mapping[int, float]


def series_of(result: Sequence[Mapping[str, object]]) -> list[Series]:
    """The series of Loki's matrix."""
    found = []
    for one in result:
        values = one["values"]
        assert isinstance(values, list)
        samples = {round(float(at) * 1000) * 10**6: float(value) for at, value in values}
        labels = one["metric"]
        assert isinstance(labels, dict)
        found.append(Series(labels, samples))
    return found


def step_for(start: int, end: int) -> int:
    """A round step (ns) that makes about forty bars of [start, end) ns."""
    needed = (end - start) / _BARS / _S
    return next((step for step in _STEPS if step >= needed), math.ceil(needed / 86400) * 86400) * _S


def bars(series: Series, moments: Sequence[int], *, local: bool = False) -> str:
    """A row a moment: its time, a bar, the value."""
    span = moments[-1] - moments[0] if moments else 0
    finite = [abs(value) for value in series.samples.values() if math.isfinite(value)]
    most = max(finite, default=0.0)
    rows = []
    for at in moments:
        value = series.samples.get(at)
        text = "" if value is None else show_number(value)
        rows.append([show_short(at, span, local=local), _bar(value, most).ljust(_WIDTH), text])
    return columns(["TIME", "", "VALUE"], rows)


def _bar(value: float | None, most: float) -> str:
    if value is None or not math.isfinite(value) or not most:
        return ""
    eighths = max(round(abs(value) / most * _WIDTH * 8), 1 if value else 0)
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


def sparklines(series: Sequence[Series], moments: Sequence[int]) -> str:
    """A row a series: its labels, its course, the least, the largest and the last value."""
    rows = []
    for one in series:
        values = [one.samples.get(at) for at in moments]
        there = [value for value in values if value is not None and math.isfinite(value)]
        ends = [show_number(f(there)) if there else "" for f in (min, max, lambda some: some[-1])]
        rows.append([spelled(one.labels), _sparks(_narrowed(values)), *ends])
    return columns(["SERIES", "", "MIN", "MAX", "LAST"], rows)


def _narrowed(values: Sequence[float | None]) -> list[float | None]:
    """As many as fit: of neighbours the largest."""
    if len(values) <= 2 * _WIDTH:
        return list(values)
    groups = [
        values[len(values) * i // (2 * _WIDTH) : len(values) * (i + 1) // (2 * _WIDTH)] for i in range(2 * _WIDTH)
    ]
    return [max((value for value in group if value is not None), default=None) for group in groups]


def _sparks(values: Sequence[float | None]) -> str:
    there = [value for value in values if value is not None and math.isfinite(value)]
    if not there:
        return ""
    low, high = min(0.0, *there), max(there)
    text = ""
    for value in values:
        if value is None or not math.isfinite(value):
            text += " "
        else:
            text += _SPARKS[round((value - low) / (high - low) * 7) if high > low else 0]
    return text


def stacked(series: Sequence[Series], moments: Sequence[int], step: int, *, local: bool, colours: bool) -> str:
    """Lines by time, a bar a moment, the worst first: how many, and of which severity. A row begins `step` earlier."""
    counts: dict[int, dict[str, float]] = {at: {} for at in moments}
    for one in series:
        severity = severity_of_labels(one.labels)
        for at, value in one.samples.items():
            if at in counts:
                counts[at][severity] = counts[at].get(severity, 0) + value
    most = max((sum(found.values()) for found in counts.values()), default=0)
    span = moments[-1] - moments[0] if moments else 0
    lines = []
    for at, found in counts.items():
        total = sum(found.values())
        bar = _stack(found, total, most, colours)
        told = ", ".join(f"{show_number(found[s])} {s}" for s in SEVERITIES if found.get(s) and s != "other")
        text = f"{show_short(at - step, span, local=local)}  {bar}  {show_number(total)}"
        lines.append(f"{text}  ({told})" if told else text)
    return "".join(f"{line}\n" for line in lines)


def _stack(found: Mapping[str, float], total: float, most: float, colours: bool) -> str:
    if not colours:
        return _bar(total or None, most).ljust(_WIDTH)
    text, told, sum_ = "", 0, 0.0
    for severity in SEVERITIES:
        if count := found.get(severity):
            sum_ += count
            until = max(round(sum_ / most * _WIDTH), told + 1)
            text += coloured("█" * (until - told), code_of(severity))
            told = until
    return text + " " * max(0, _WIDTH - told)


def show_number(value: float) -> str:
    """A sample for people."""
    if not math.isfinite(value):
        return str(value)
    if value == round(value) and abs(value) < 1e15:
        return f"{value:,.0f}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.1f}"
