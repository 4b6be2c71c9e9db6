from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import count

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from atalaia.store.retention import Due, Holding, Piece, Retention, Rule, due


@dataclass(frozen=True)
class Entry:
    rule: int
    ts: int
    size: int


Segments = dict[str, list[Entry]]


def piece(rule: int, entries: list[Entry]) -> Piece:
    times = [entry.ts for entry in entries]
    return Piece(rule, sum(entry.size for entry in entries), min(times), max(times))


def holding(name: str, entries: list[Entry], fixed: bool = False) -> Holding:
    rules = sorted({entry.rule for entry in entries})
    whole = piece(0, entries)
    pieces = tuple(piece(rule, [entry for entry in entries if entry.rule == rule]) for rule in rules)
    return Holding(name, whole.size, whole.min_ts, whole.max_ts, pieces, fixed)


def step(segments: Segments, retention: Retention, now: int, fixed: frozenset[str] = frozenset()) -> list[Due]:
    """What is due; it is removed from `segments`."""

    def edge(name: str, rule: int | None, size: int) -> int:
        assert name not in fixed, "a segment that cannot be written again need not be read"
        mine = sorted((e for e in segments[name] if rule in (None, e.rule)), key=lambda e: e.ts, reverse=True)
        for before, entry in zip([None, *mine], mine, strict=False):
            size -= entry.size
            if size < 0:
                return entry.ts if before and before.ts == entry.ts else entry.ts + 1
        raise AssertionError("nothing is beyond")

    found = due([holding(name, entries, name in fixed) for name, entries in segments.items()], retention, now, edge)
    for one in found:
        left = [entry for entry in segments[one.name] if entry.ts >= one.cuts.get(entry.rule, entry.ts)]
        assert len(left) < len(segments[one.name]), "a segment is written again for nothing"
        assert one.whole == (not left)
        segments[one.name] = left
        if not left:
            del segments[one.name]
    return found


def rule(age: int | None = None, size: int | None = None) -> Rule:
    return Rule(lambda tenant, labels: True, age, size)


@pytest.mark.parametrize(
    ("retention", "gone"),
    [
        (Retention(), set()),
        (Retention(age=100), set()),
        (Retention(age=50), {"a"}),
        (Retention(age=10), {"a", "b"}),
        (Retention(age=0), {"a", "b", "c"}),
        (Retention(size=30), set()),
        (Retention(size=28), set()),
        (Retention(size=20), {"a"}),
        (Retention(size=10), {"a", "b"}),
        (Retention(size=0), {"a", "b", "c"}),
        (Retention(age=50, size=10), {"a", "b"}),
    ],
)
def test_without_rules_the_oldest_segments_go_by_age_and_by_size(retention: Retention, gone: set[str]) -> None:
    # `b` began before `a` but has newer entries: the newest entry counts.
    segments = {
        "b": [Entry(0, 950, 5), Entry(0, 960, 5)],
        "c": [Entry(0, 960, 5), Entry(0, 999, 5)],
        "a": [Entry(0, 910, 5), Entry(0, 920, 5)],
    }
    step(segments, retention, 1000)
    assert {"a", "b", "c"} - set(segments) == gone


def test_a_segment_is_written_again_once_for_a_rule_as_time_goes_by() -> None:
    entries = [Entry(0, ts, 1) for ts in range(100)] + [Entry(1, ts, 1) for ts in range(100)]
    segments = {"a": entries}
    retention = Retention(age=1000, rules=(rule(age=100),))
    steps = [now for now in range(1300) for _ in step(segments, retention, now)]
    assert steps == [200, 1100]  # when the last of the rule is too old, and when all are


def test_what_spans_more_than_the_age_is_halved() -> None:
    segments = {"a": [Entry(0, 0, 1)] + [Entry(1, ts, 1) for ts in range(1024)]}
    retention = Retention(rules=(rule(age=100),))
    most = 0
    rewrites = 0
    for now in range(1200):
        rewrites += len(step(segments, retention, now))
        expired = sum(entry.rule == 1 and entry.ts < now - 100 for entry in segments["a"])
        most = max(most, expired)
    assert rewrites == 5  # 512, 256, 128, 64 of them, and the rest at once
    assert most == 511
    assert segments == {"a": [Entry(0, 0, 1)]}


def test_a_size_is_kept_with_few_rewrites() -> None:
    segments: Segments = {}
    retention = Retention(rules=(rule(size=1000),))
    rewrites: Counter[str] = Counter()
    for number in range(100):
        segments[f"s{number}"] = [Entry(1, number * 100 + i, 1) for i in range(100)] + [Entry(0, number * 100, 1)]
        rewrites.update(one.name for one in step(segments, retention, 0))
        left = [entry for entries in segments.values() for entry in entries if entry.rule == 1]
        assert min(number * 100 + 100, 1000) <= len(left) < 1100
    assert sum(len([e for e in entries if e.rule == 0]) for entries in segments.values()) == 100
    assert set(rewrites.values()) == {1}


def test_what_a_rule_keeps_for_long_goes_by_the_size_of_everything_all_the_same() -> None:
    segments = {"old": [Entry(1, 0, 10)], "new": [Entry(0, 100, 10)]}
    assert [one.name for one in step(segments, Retention(size=10, rules=(rule(age=10**9),)), 200)] == ["old"]


def test_a_segment_that_cannot_be_written_again_goes_as_a_whole_or_not_at_all() -> None:
    segments = {"a": [Entry(0, 0, 1), Entry(1, 0, 1)]}
    retention = Retention(age=100, rules=(rule(age=10),))
    for now in range(200):
        step(segments, retention, now, frozenset("a"))
        assert bool(segments) == (now <= 100)


_BOUND = st.none() | st.integers(0, 120)
_RETENTION = st.builds(
    lambda age, size, rules: Retention(age, size, tuple(rule(*one) for one in rules)),
    _BOUND,
    _BOUND,
    st.lists(st.tuples(_BOUND, _BOUND), max_size=2),
)


@st.composite
def _stores(draw: st.DrawFn) -> tuple[Retention, Segments]:
    retention = draw(_RETENTION)
    entry = st.builds(Entry, st.integers(0, len(retention.rules)), st.integers(0, 200), st.integers(1, 9))
    lists = draw(st.lists(st.lists(entry, min_size=1, max_size=12), max_size=6))
    return retention, {f"s{number}": entries for number, entries in enumerate(lists)}


def _bounds(retention: Retention, number: int) -> tuple[int | None, int | None]:
    return (retention.age, None) if not number else (retention.rules[number - 1].age, retention.rules[number - 1].size)


@settings(max_examples=400, deadline=None)
@given(_stores(), st.sets(st.integers(0, 5)), st.integers(0, 300))
def test_nothing_within_its_bounds_goes_and_what_is_not_goes_in_the_end(
    store: tuple[Retention, Segments], stuck: set[int], now: int
) -> None:
    retention, segments = store
    fixed = frozenset(f"s{number}" for number in stuck)
    for steps in count():
        before = {name: list(entries) for name, entries in segments.items()}
        found = step(segments, retention, now, fixed)
        _nothing_needed_went(retention, now, before, segments)
        for one in found:
            assert one.whole or one.name not in fixed
        if not found:
            event(f"{steps} steps")
            break
        assert steps < 20
    for name, entries in segments.items():
        if name not in fixed:
            _nothing_is_left_too_long(retention, now, entries)


def _nothing_needed_went(retention: Retention, now: int, before: Segments, after: Segments) -> None:
    left = Counter(e for entries in after.values() for e in entries)
    gone = Counter(e for entries in before.values() for e in entries) - left
    total = sum(e.size * n for e, n in left.items())
    for entry in gone:
        age, size = _bounds(retention, entry.rule)
        if age is not None and entry.ts < now - age:
            continue
        mine = sum(e.size * n for e, n in left.items() if e.rule == entry.rule)
        # An entry at the edge of a size goes; all of one time go or stay together.
        beyond = size is not None and mine + sum(e.size * n for e, n in gone.items() if e.rule == entry.rule) > size
        assert beyond or (
            retention.size is not None and total + sum(e.size * n for e, n in gone.items()) > retention.size
        )
        most = max(e.size for e in (*left, *gone))
        assert (size is not None and mine > size - most) or (
            retention.size is not None and total > retention.size - most
        )


def _nothing_is_left_too_long(retention: Retention, now: int, entries: list[Entry]) -> None:
    for number in {entry.rule for entry in entries}:
        age, _ = _bounds(retention, number)
        mine = [entry for entry in entries if entry.rule == number]
        if age is None:
            continue
        newest, oldest = max(e.ts for e in mine), min(e.ts for e in mine)
        assert newest >= now - age
        expired = sum(e.size for e in mine if e.ts < now - age)
        assert newest - oldest <= age or expired <= sum(e.size for e in mine) / 2 + max(e.size for e in mine)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 9)), min_size=1, max_size=30), max_size=6),
    st.integers(0, 600),
)
def test_no_more_than_a_tenth_above_a_size_is_left(lists: list[list[tuple[int, int]]], size: int) -> None:
    moments = count()
    segments = {f"s{number}": [Entry(1, next(moments), size) for _, size in some] for number, some in enumerate(lists)}
    everything = sum(e.size for entries in segments.values() for e in entries)
    while step(segments, Retention(rules=(rule(size=size),)), 0):
        pass
    left = sum(e.size for entries in segments.values() for e in entries)
    assert min(everything, size - 9) <= left <= max(size * 1.1, size)
