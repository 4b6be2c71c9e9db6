"""The time pattern of repeated events: once, at a fixed period, in a burst, or irregular."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

_SECOND = 1_000_000_000
# Two lines of one beat (a client that tries twice at once) are closer than this.
_SAME_BEAT = _SECOND // 5
_LEAST_BEATS = 4
_LEAST_PERIOD = _SECOND // 2
_LONGEST_BURST = 60 * _SECOND


@dataclass(frozen=True, slots=True)
class TimePattern:
    """`period` and `jitter` (standard deviation) are in seconds and given for "periodic" only; `span` is
    first to last.
    """

    shape: Literal["single", "periodic", "burst", "irregular"]
    count: int
    span: float
    period: float = 0
    jitter: float = 0


def time_pattern(times: Sequence[int]) -> TimePattern:
    """The pattern of events at `times` (ns since 1970, in any order, at least one).

    Periodic means at least four beats whose distances are, for nine in ten, the period or a small multiple of
    it (a beat may be missing) within 15 % of the period. A burst is five or more within a minute, a second
    apart at most in the middle.
    """
    ordered = sorted(times)
    span = (ordered[-1] - ordered[0]) / _SECOND
    if len(ordered) == 1:
        return TimePattern("single", 1, 0)
    beats = [ordered[0]]
    for ts in ordered[1:]:
        if ts - beats[-1] > _SAME_BEAT:
            beats.append(ts)
    if (periodic := _periodic(beats, len(ordered), span)) is not None:
        return periodic
    gaps = [after - before for before, after in itertools.pairwise(ordered)]
    if len(ordered) >= 5 and ordered[-1] - ordered[0] <= _LONGEST_BURST and statistics.median(gaps) <= _SECOND:
        return TimePattern("burst", len(ordered), span)
    return TimePattern("irregular", len(ordered), span)


def _periodic(beats: list[int], count: int, span: float) -> TimePattern | None:
    gaps = [after - before for before, after in itertools.pairwise(beats)]
    if len(beats) < _LEAST_BEATS or (guess := statistics.median_low(gaps)) < _LEAST_PERIOD:
        return None
    multiples = [max(1, round(gap / guess)) for gap in gaps]
    fitting = [
        (gap, times)
        for gap, times in zip(gaps, multiples, strict=True)
        if times <= 5 and abs(gap - times * guess) <= 0.15 * guess
    ]
    single = sum(times == 1 for _, times in fitting)
    if len(fitting) < 0.9 * len(gaps) or single < 0.6 * len(gaps):
        return None
    period = sum(gap for gap, _ in fitting) / sum(times for _, times in fitting)
    jitter = statistics.pstdev([gap - times * period for gap, times in fitting])
    return TimePattern("periodic", count, span, period / _SECOND, jitter / _SECOND)
