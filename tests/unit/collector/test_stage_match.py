from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.collector.flow_support import READ, built, in_pieces, made, rows, stage

from atalaia.collector import pipeline
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Job
from atalaia.collector.stages.labels import StaticLabels
from atalaia.collector.stages.match import Match
from atalaia.collector.stages.multiline import Multiline
from atalaia.collector.stages.narrow import narrowed

LINES = ["info a", "error b", "noise", "info c"]
APPS = {"app": ["x", "x", "y", None]}


def kept(selector: str) -> list[int]:
    """Which of the lines a selector selects."""
    found = Match(selector, (StaticLabels({"hit": "1"}),))(made(LINES, APPS))
    assert [line for _, line, _ in rows(found)] == LINES
    return [number for number, (labels, _, _) in enumerate(rows(found)) if "hit" in labels]


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ('{app="x"}', [0, 1]),
        ('{app!="x"}', [2, 3]),
        ('{app=""}', [3]),
        ('{app=~"x|y"}', [0, 1, 2]),
        ('{app=~"x.+"}', []),
        ('{app!~"y"}', [0, 1, 3]),
        ('{app=~".*"}', [0, 1, 2, 3]),
        ('{app=~".*"} |= "info"', [0, 3]),
        ('{app=~".*"} != "info"', [1, 2]),
        ('{app=~".*"} |~ "^(info|error) [ab]$"', [0, 1]),
        ('{app=~".*"} !~ "o.*e"', [0, 1, 3]),
        ('{app="x"} |= "o" != "b" |~ "a"', [0]),
        ('{app="x", job="none"}', []),
        ('{app="x"} |= "info" or "error"', [0, 1]),
    ],
)
def test_a_selector_selects_by_labels_and_lines(selector: str, expected: list[int]) -> None:
    assert kept(selector) == expected


def test_what_is_selected_goes_through_the_stages_and_nothing_else_changes() -> None:
    match = stage(
        "- match:\n    selector: '{app=\"x\"}'\n    pipeline_name: p\n    stages:\n"
        "    - regex: {expression: '^(?P<level>\\w+) (?P<rest>.*)'}\n    - labels: {level: }\n"
    )
    found = match(made(LINES, APPS))
    assert rows(found) == [
        ({"app": "x", "level": "info"}, LINES[0], READ),
        ({"app": "x", "level": "error"}, LINES[1], READ + 1),
        ({"app": "y"}, LINES[2], READ + 2),
        ({}, LINES[3], READ + 3),
    ]
    assert found.source("rest").to_pylist() == ["a", "b", None, None]


def test_inside_labels_are_found_among_the_extracted_values() -> None:
    outside = StaticLabels({"team": "db"})(made(["a"], {}))
    assert "team" not in outside.extracted
    assert Match('{team="db"}', (StaticLabels({"x": "y"}),))(outside).source("team").to_pylist() == ["db"]


def test_dropped_entries_are_counted_once_and_only_when_taken() -> None:
    drop = stage('- match: {selector: \'{job="j"} |= "noise"\', action: drop, drop_counter_reason: loud}')
    found, meters = in_pieces([drop, Multiline("^1")], ["1", "noise", "x", "noise", "1", "noise"], [3, 5])
    assert [line for _, line, _ in found] == ["1\nx", "1"]
    assert b'logentry_dropped_lines_total{reason="loud"} 3.0' in meters.exposition()


def test_effects_before_a_match_are_applied_once() -> None:
    stages, problems = built(
        '- drop: {expression: noise}\n- match: {selector: \'{job="j"} |= "error"\', stages: [{drop: {expression: b}}]}'
    )
    assert not problems
    taken = pipeline.run(Job("j", (), stages=stages), "".join(f"{x}\n" for x in LINES).encode(), READ, {"job": "j"})
    meters = Meters()
    pipeline.settle(taken, meters)
    assert [line for _, line, _ in rows(taken.entries)] == ["info a", "info c"]
    assert b'logentry_dropped_lines_total{reason="drop_stage"} 2.0' in meters.exposition()


def test_a_multiline_inside_a_match_waits_and_tells_so() -> None:
    match = Match('{job="j"} |~ "^[0-9 ]"', (Multiline("^[0-9]", wait=7.0),))
    assert Job("j", (), stages=(match,)).patience == 7.0
    lines = ["1", "other", " a", "other", "2", " b", "other"]
    found, _ = in_pieces([match], lines, [2, 3, 6])
    assert [line for _, line, _ in found] == ["1\n a", "other", "other", "2\n b", "other"]


def test_what_stages_inside_read_is_extracted_before() -> None:
    stages, _ = built(
        "- regex: {expression: '(?P<a>.)(?P<b>.)(?P<c>.)'}\n"
        "- match: {selector: '{job=\"j\"}', stages: [{labels: {b: }}]}\n- labels: {c: }"
    )
    assert narrowed(stages)[0].wanted == {"b", "c"}  # type: ignore[attr-defined]
    inside, _ = built(
        "- match: {selector: '{job=\"j\"}', stages: "
        "[{regex: {expression: '(?P<a>.)(?P<b>.)(?P<c>.)'}}, {labels: {b: }}]}\n"
        "- labels: {c: }"
    )
    assert narrowed(inside)[0].stages[0].wanted == {"b", "c"}  # type: ignore[attr-defined]
    assert narrowed(inside)[0](made(["xyz"], {"job": "j"})).source("c").to_pylist() == ["z"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([None, "x", "y"]), st.sampled_from(["ab", "b", "c", "1", "2"])), max_size=30),
    st.sampled_from(["a", "b", "[12]", "nothing", ""]),
    st.sampled_from(["b", "1"]),
)
def test_the_order_stays_whatever_is_selected_and_dropped(
    entries: list[tuple[str | None, str]], expression: str, dropped: str
) -> None:
    given_ = made([line for _, line in entries], {"app": [app for app, _ in entries]})
    match = stage(
        f'- match: {{selector: \'{{app=~"x|"}} |~ "{expression}"\', stages: '
        f"[{{static_labels: {{hit: yes}}}}, {{drop: {{expression: '{dropped}'}}}}]}}"
    )
    expected = []
    for number, (app, line) in enumerate(entries):
        hit = app != "y" and re.search(expression, line) is not None
        if not (hit and re.search(dropped, line)):
            labels = ({"app": app} if app else {}) | ({"hit": "yes"} if hit else {})
            expected.append((labels, line, READ + number))
    found = match(given_)
    assert rows(found) == expected
    assert np.array_equal(found.first_lines, [ts - READ for _, _, ts in expected])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- match: {stages: [{cri: {}}]}", "1: the stage match: it needs 'selector'"),
        ("- match: {selector: '{a=\"b\"}'}", "it needs stages, or `action: drop`"),
        (
            "- match: {selector: '{a=\"b\"}', action: drop, stages: [{cri: {}}]}",
            "what is dropped goes through no stages",
        ),
        ("- match: {selector: '{a=\"b\"}', action: lose, stages: [{cri: {}}]}", "action is 'lose'"),
        ("- match: {selector: '{a=', action: drop}", "the selector cannot be read"),
        ("- match: {selector: '{}', action: drop}", "the selector cannot be read"),
        ('- match: {selector: \'{a="b"} |~ "("\', action: drop}', "the selector cannot be read"),
        ("- match: {selector: '{a=\"b\"} | json', action: drop}", "can have line filters"),
        ("- match: {selector: 'rate({a=\"b\"}[1m])', action: drop}", "metric query"),
        ("- match: {selector: '{a=\"b\"}', pipeline_name: '', action: drop}", "pipeline_name can be left out"),
        ("- match:\n    selector: '{a=\"b\"}'\n    stages:\n    - cri: {x: 1}", "4: cri: 'x' is not known"),
    ],
)
def test_a_wrong_match_is_refused_with_its_line(text: str, problem: str) -> None:
    assert problem in "\n".join(built(text)[1])
