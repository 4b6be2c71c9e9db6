from __future__ import annotations

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.collector.flow_support import built, in_pieces, made, rows, stage

from atalaia.collector.entries import Entries
from atalaia.collector.stages.drop import Drop

LINES = ["debug one", "info two", "debug three", ""]
LEVELS = {"level": ["debug", "info", None, ""], "app": ["a", None, "a", "b"]}


def left(text: str) -> list[int]:
    found = stage(text)(made(LINES, {}, LEVELS))
    return found.first_lines.tolist()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- drop: {expression: '^debug'}", [1, 3]),
        ("- drop: {source: level}", [2]),
        ("- drop: {source: nothing}", [0, 1, 2, 3]),
        ("- drop: {source: [level, app]}", [1, 2]),
        ("- drop: {source: level, value: debug}", [1, 2, 3]),
        ("- drop: {source: level, value: ''}", [0, 1]),
        ("- drop: {source: level, value: deb}", [0, 1, 2, 3]),
        ("- drop: {source: level, expression: 'o'}", [0, 2, 3]),
        ("- drop: {source: [level, app], expression: '^debug;a$'}", [1, 2, 3]),
        ("- drop: {source: [level, app], separator: '', expression: '^(debug|)a$'}", [1, 3]),
        ("- drop: {longer_than: 9}", [0, 1, 3]),
        ("- drop: {longer_than: 8b}", [1, 3]),
        ("- drop: {longer_than: 1kb}", [0, 1, 2, 3]),
        ("- drop: {longer_than: 8, expression: one}", [1, 2, 3]),
        ("- drop: {longer_than: 0, source: app}", [1, 3]),
    ],
)
def test_an_entry_that_meets_every_condition_is_dropped(text: str, expected: list[int]) -> None:
    assert left(text) == expected


def test_what_is_older_is_dropped() -> None:
    entries = made(["now", "an hour ago", "tomorrow"])
    now = time.time_ns()
    entries = Entries(entries.lines, now + entries.ts * 0 + [0, -3600 * 10**9, 86400 * 10**9], {})
    found = stage("- drop: {older_than: 30m}")(entries)
    assert found.lines.to_pylist() == ["now", "tomorrow"]


def test_the_length_is_counted_in_bytes() -> None:
    assert Drop(longer_than=3)(made(["éé", "abc"])).lines.to_pylist() == ["abc"]


def test_dropped_lines_are_counted_by_reason() -> None:
    text = "- drop: {expression: a}\n- drop: {expression: b, drop_counter_reason: too_b}\n- drop: {expression: c}"
    found, meters = in_pieces(built(text)[0], ["a", "ab", "b", "c", "d"], [2, 3])
    assert [line for _, line, _ in found] == ["d"]
    assert b'logentry_dropped_lines_total{reason="drop_stage"} 3.0' in meters.exposition()
    assert b'logentry_dropped_lines_total{reason="too_b"} 1.0' in meters.exposition()


VALUE = st.none() | st.sampled_from(["", "a", "b", "ab", "a;b"])


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(VALUE, VALUE, st.sampled_from(["", "a", "b", "a;b", "abab"])), min_size=1, max_size=12),
    st.sampled_from([(), ("x",), ("x", "y"), ("y", "none")]),
    st.sampled_from([";", "", "a"]),
    st.sampled_from([None, "", "a", "a;b"]),
    st.sampled_from([None, "^a", "b$", "", "^$"]),
    st.sampled_from([None, 0, 1, 2]),
)
def test_drop_is_a_conjunction(
    entries: list[tuple[str | None, str | None, str]],
    sources: tuple[str, ...],
    separator: str,
    value: str | None,
    expression: str | None,
    longer: int | None,
) -> None:
    if not sources:
        value = None
    if value is not None:
        expression = None
    if not sources and expression is None and longer is None:
        longer = 1
    expected = []
    for x, y, line in entries:
        there = [{"x": x, "y": y, "none": None}[source] for source in sources]
        text = separator.join(one for one in there if one is not None) if sources else line
        conditions = [
            longer is None or len(line) > longer,
            value is None or text == value,
            expression is None or re.search(expression, text) is not None,
            value is not None or expression is not None or None not in there,
        ]
        expected.append(all(conditions))
    drop = Drop(sources, separator, value, expression, longer_than=longer)
    found = drop(made([e[2] for e in entries], {}, {"x": [e[0] for e in entries], "y": [e[1] for e in entries]}))
    assert found.first_lines.tolist() == [number for number, gone in enumerate(expected) if not gone]
    assert len(rows(found)) == expected.count(False)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- drop: {}", "1: the stage drop: it needs at least one of source, expression, older_than and longer_than"),
        ("- drop: {value: x}", "a value needs a source"),
        ("- drop: {source: a, value: x, expression: y}", "value and expression exclude each other"),
        ("- drop: {expression: '('}", "not RE2"),
        ("- drop: {older_than: 1d}", "older_than is '1d', not a duration"),
        ("- drop: {longer_than: lots}", "longer_than is 'lots', not a size"),
        ("- drop: {source: []}", "an empty list"),
        ("- drop:\n    expression: x\n    sources: y", "3: drop: 'sources' is not known"),
    ],
)
def test_a_wrong_drop_is_refused_with_its_line(text: str, problem: str) -> None:
    assert problem in "\n".join(built(text)[1])
