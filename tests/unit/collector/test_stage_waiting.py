"""Stages that wait, one behind the other: the entries do not depend on when the lines came."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.collector.flow_support import built, in_pieces

STAGES = """
- cri: {}
- drop: {expression: '^noise'}
- match:
    selector: '{stream="stdout"} !~ "^alone"'
    stages:
    - multiline: {firstline: '^1', max_lines: 3}
    - metrics: {inside: {type: counter, config: {match_all: true, action: inc}}}
- metrics: {all: {type: counter, config: {match_all: true, count_entry_bytes: true, action: add}}}
- multiline: {firstline: '^[1a]'}
- metrics: {last: {type: counter, config: {match_all: true, action: inc}}}
"""
LINE = st.builds(
    "2024-05-01T10:00:0{}Z {} {} {}".format,
    st.integers(0, 9),
    st.sampled_from(["stdout", "stdout", "stderr"]),
    st.sampled_from("FFFP"),
    st.sampled_from(["1", "1 x", "2", "noise", "alone", ""]),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(LINE, max_size=30), st.lists(st.integers(0, 30), max_size=6))
def test_entries_and_counts_are_those_of_one_run(lines: list[str], ends: list[int]) -> None:
    ends = sorted(min(end, len(lines)) for end in ends)
    whole, once = in_pieces(built(STAGES)[0], lines, [])
    found, meters = in_pieces(built(STAGES)[0], lines, ends)
    for stream in ("stdout", "stderr"):
        own = [[row for row in rows if row[0]["stream"] == stream] for rows in (whole, found)]
        assert own[0] == own[1]
    assert _samples(meters.exposition()) == _samples(once.exposition())


@settings(max_examples=60, deadline=None)
@given(
    st.lists(LINE, max_size=30),
    st.lists(st.integers(0, 30), max_size=6),
    st.dictionaries(st.integers(0, 6), st.integers(0, 30)),
)
def test_whatever_is_given_up_no_text_is_lost_or_repeated(
    lines: list[str], ends: list[int], flushes: dict[int, int]
) -> None:
    ends = sorted(min(end, len(lines)) for end in ends)
    lines = [f"{line}<{number}>" for number, line in enumerate(lines)]
    found, meters = in_pieces(built(STAGES)[0], lines, ends, flushes)
    numbers = sorted(int(number) for _, text, _ in found for number in re.findall(r"<(\d+)>", text))
    assert len(numbers) == len(set(numbers))
    gone = [number for number in range(len(lines)) if number not in set(numbers)]
    # A dropped line is one that begins with noise, with all that goes on from it.
    counted = re.findall(rb'dropped_lines_total\{reason="drop_stage"\} (\d+)', meters.exposition())
    assert bool(gone) == bool(counted)
    assert all("noise" in lines[number] or _goes_on(lines, number) for number in gone)


def _goes_on(lines: list[str], number: int) -> bool:
    """Whether an unfinished line of the same stream stands before it."""
    stream = lines[number].split()[1]
    before = [line for line in lines[:number] if line.split()[1] == stream]
    return bool(before) and before[-1].split()[2] == "P"


def _samples(exposition: bytes) -> list[bytes]:
    return sorted(re.findall(rb"^(?:promtail_custom_\w+|logentry_dropped_lines_total)\{.*", exposition, re.MULTILINE))
