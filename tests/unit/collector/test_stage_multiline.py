from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.collector.flow_support import READ, built, in_pieces, made, rows, stage

from atalaia.collector.plan import Job
from atalaia.collector.stages.labels import Labels
from atalaia.collector.stages.multiline import Multiline
from atalaia.collector.stages.regex import Regex
from atalaia.collector.stages.timestamp import Timestamp

JAVA = [
    "left over from before",
    "2024-05-01 10:00:00 ERROR boom",
    "java.lang.IllegalStateException: boom",
    "\tat a.B.c(B.java:1)",
    "",
    "2024-05-01 10:00:01 INFO fine",
]


def test_the_lines_of_a_record_become_one_entry_with_the_first_ones_time() -> None:
    java = stage("- multiline:\n    firstline: '^\\d{4}-\\d{2}-\\d{2} '\n")
    found = java(made(JAVA, {"app": "x"}))
    assert rows(found) == [
        ({"app": "x"}, JAVA[0], READ),
        ({"app": "x"}, "\n".join(JAVA[1:5]), READ + 1),
        ({"app": "x"}, JAVA[5], READ + 5),
    ]
    assert found.first_lines.tolist() == [0, 1, 5]
    assert found.last_lines.tolist() == [0, 4, 5]
    assert (java.wait, java.max_lines) == (3.0, 128)


def test_each_stream_has_its_own_records() -> None:
    entries = made(["1 a", "1 b", "a2", "b2", "1 c"], {"s": ["a", "b", "a", "b", None]})
    found = Multiline("^1")(entries)
    assert [(labels, line) for labels, line, _ in rows(found)] == [
        ({"s": "a"}, "1 a\na2"),
        ({"s": "b"}, "1 b\nb2"),
        ({}, "1 c"),
    ]


def test_a_record_of_more_than_max_lines_goes_on_as_a_further_entry_of_the_same_time() -> None:
    found = Multiline("^1", max_lines=2)(made(["1", "a", "b", "c", "d", "1"]))
    assert [(line, ts - READ) for _, line, ts in rows(found)] == [("1\na", 0), ("b\nc", 0), ("d", 0), ("1", 5)]
    assert len(Multiline("^1", max_lines=0)(made(["1", *"x" * 500]))) == 1


def test_what_a_record_was_extracted_from_comes_of_its_first_line() -> None:
    found = Multiline("^1")(made(["1", "a", "1"], {}, {"x": ["first", "second", None]}))
    assert found.source("x").to_pylist() == ["first", None]


def test_a_record_waits_and_what_comes_too_late_goes_on_with_its_time() -> None:
    java = Multiline("^1")
    lines = ["1 a", "x", "y", "1 b"]
    found, _ = in_pieces([java], lines, [2, 2, 4], {1: 2})
    assert [line for _, line, _ in found] == ["1 a\nx", "y", "1 b"]
    late = in_pieces([Regex(r"(?P<t>\d+)$"), Timestamp("t", "Unix"), java], ["1 5", "x 6", "y 7"], [2, 2], {1: 2})[0]
    assert [(line, ts // 10**9) for _, line, ts in late] == [("1 5\nx 6", 5), ("y 7", 5)]
    # A line that comes before any record of its stream is nobody's.
    assert [line for _, line, _ in in_pieces([Multiline("^1")], lines[1:], [])[0]] == ["x", "y", "1 b"]


def test_a_quiet_stream_does_not_hold_up_another_once_it_has_waited() -> None:
    stages = [Regex("^(?P<s>.)"), Labels({"s": None}), Multiline(r"^.1")]
    lines = ["a1", *["b1", "b2"] * 50]
    found, _ = in_pieces(stages, lines, [40, 101], {1: 20})
    assert [line for _, line, _ in found] == ["a1", *["b1\nb2"] * 50]


def test_a_record_without_end_is_passed_on_in_entries_of_max_lines() -> None:
    stages = (Multiline("^1", max_lines=4),)
    lines = ["1", *(f"x{number}" for number in range(100))]
    from atalaia.collector import pipeline

    taken = pipeline.run(Job("j", (), stages=stages), "".join(f"{x}\n" for x in lines).encode(), READ, {})
    assert taken.lines == 100  # the last entry of four waits
    found, _ = in_pieces((Multiline("^1", max_lines=4),), lines, list(range(1, 101)))
    assert "\n".join(line for _, line, _ in found) == "\n".join(lines)
    assert [line.count("\n") + 1 for _, line, _ in found] == [4] * 25 + [1]
    assert len({ts for _, _, ts in found}) == 1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- multiline: {}", "1: the stage multiline: it needs 'firstline'"),
        ("- multiline:\n    firstline: '('", "1: the stage multiline: the expression is not RE2: missing ): ("),
        ("- multiline: {firstline: x, max_wait_time: soon}", "max_wait_time is 'soon', not a duration"),
        ("- multiline: {firstline: x, max_lines: -1}", "max_lines is '-1', not a whole number"),
        ("- multiline: {firstline: x, lines: 3}", "multiline: 'lines' is not known"),
    ],
)
def test_a_wrong_multiline_is_refused_with_its_line(text: str, problem: str) -> None:
    assert problem in "\n".join(built(text)[1])


# -- against a plain model, whatever the blocks

LINE = st.builds("{}{}".format, st.sampled_from("ab"), st.sampled_from(["1", "2", "3", ""]))


def model(lines: list[str], most: int) -> dict[str, list[tuple[str, int]]]:
    """Entries and times of each stream: a line `x1…` begins a record of the stream x."""
    found: dict[str, list[tuple[str, int]]] = {}
    open_at: dict[str, tuple[list[str], int]] = {}
    for number, line in enumerate(lines):
        stream = line[0]
        out = found.setdefault(stream, [])
        if re.match(".1", line):
            if stream in open_at and open_at[stream][0]:
                out.append(("\n".join(open_at[stream][0]), open_at[stream][1]))
            open_at[stream] = ([], number)
        elif stream not in open_at:
            out.append((line, number))
            continue
        buffer, time = open_at[stream]
        buffer.append(line)
        if len(buffer) == most:
            out.append(("\n".join(buffer), time))
            buffer.clear()
    for stream, (buffer, time) in open_at.items():
        if buffer:
            found[stream].append(("\n".join(buffer), time))
    return found


def pipeline_of(most: int) -> list:
    return [
        Regex(r"^(?P<s>.).*#(?P<t>\d+)$"),
        Labels({"s": None}),
        Timestamp("t", "UnixNs"),
        Multiline("^.1", max_lines=most),
    ]


@settings(max_examples=150, deadline=None)
@given(st.lists(LINE, max_size=40), st.lists(st.integers(0, 40), max_size=6), st.sampled_from([0, 1, 2, 3, 128]))
def test_however_the_lines_are_cut_into_blocks_the_entries_are_those_of_one_run(
    lines: list[str], ends: list[int], most: int
) -> None:
    lines = [f"{line}#{number}" for number, line in enumerate(lines)]
    found, _ = in_pieces(pipeline_of(most), lines, sorted(min(end, len(lines)) for end in ends))
    streams: dict[str, list[tuple[str, int]]] = {}
    for labels, line, ts in found:
        streams.setdefault(labels["s"], []).append((line, ts))
    assert streams == model(lines, most)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(LINE, max_size=40),
    st.lists(st.integers(0, 40), max_size=6),
    st.dictionaries(st.integers(0, 6), st.integers(0, 40)),
    st.sampled_from([0, 2, 128]),
)
def test_whenever_records_are_given_up_each_line_is_passed_on_once(
    lines: list[str], ends: list[int], flushes: dict[int, int], most: int
) -> None:
    lines = [f"{line}#{number}" for number, line in enumerate(lines)]
    ends = sorted(min(end, len(lines)) for end in ends)
    found, _ = in_pieces(pipeline_of(most), lines, ends, flushes)
    for stream in "ab":
        passed = [line for labels, line, _ in found if labels["s"] == stream]
        assert "\n".join(passed).split("\n") == [line for line in lines if line[0] == stream] or not passed
        # Whatever was given up, a line goes with the record before it.
        times = [ts for labels, _, ts in found if labels["s"] == stream]
        assert times == [time for text, time in _timed(passed, lines, stream)]


def _timed(passed: list[str], lines: list[str], stream: str) -> list[tuple[str, int]]:
    timed, begun = [], None
    for text in passed:
        number = int(text.split("\n")[0].split("#")[1])
        if text.startswith(f"{stream}1"):
            begun = number
        timed.append((text, number if begun is None else begun))
    return timed
