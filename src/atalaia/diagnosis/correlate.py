"""What goes with what: a kind that another one explains, and the first error of a session."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

from atalaia.diagnosis.classify import Occurrence
from atalaia.diagnosis.groups import Group

_SECOND = 1_000_000_000
# A fast shutdown or a restart of a busy server takes up to two minutes; clocks of two log files differ by
# less than 5 s.
_AFTER, _BEFORE = 120 * _SECOND, 5 * _SECOND


def explained_by(one: Group, groups: Iterable[Group]) -> Group | None:
    """The group whose events explain every event of `one` (its kind `follows` them), or None."""
    if one.kind is None or not one.kind.follows:
        return None
    candidates = [g for g in groups if g.kind and g.kind.id in one.kind.follows and g.server == one.server]
    times = sorted(ts for g in candidates for ts in g.times)
    if not candidates or not all(_near(ts, times) for ts in one.times):
        return None
    return min(candidates, key=lambda g: min(abs(ts - one.times[-1]) for ts in g.times))


def _near(ts: int, times: list[int]) -> bool:
    return bisect_left(times, ts - _AFTER) < bisect_right(times, ts + _BEFORE)


def first_error(of: Occurrence, occurrences: Iterable[Occurrence]) -> Occurrence | None:
    """The error that put `of`'s transaction into its failed state: the last other error of that process
    before it.
    """
    before = [
        o
        for o in occurrences
        if o.pid == of.pid
        and o.server == of.server
        and o.entry.ts <= of.entry.ts
        and o.message.severity == "ERROR"
        and o.kind != of.kind
        and o.entry.metadata.get("session") == of.entry.metadata.get("session")
    ]
    return max(before, key=lambda o: o.entry.ts, default=None)
