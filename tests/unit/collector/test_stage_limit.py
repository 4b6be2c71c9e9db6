from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.collector.flow_support import READ, built, in_pieces, made, rows, stage

from atalaia.collector import pipeline
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Job
from atalaia.collector.stages.labels import Labels
from atalaia.collector.stages.limit import Limit, Sampling
from atalaia.collector.stages.multiline import Multiline
from atalaia.collector.stages.regex import Regex


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def take(limit: Limit, lines: list[str], meters: Meters) -> int:
    """How many of the lines are taken for good."""
    taken = pipeline.run(Job("j", (), stages=(limit,)), "".join(f"{x}\n" for x in lines).encode(), READ, {"job": "j"})
    pipeline.settle(taken, meters)
    assert [line for _, line, _ in rows(taken.entries)] == lines[: len(taken.entries)]
    return taken.lines


def test_what_comes_too_fast_is_dropped_and_counted() -> None:
    clock, meters = Clock(), Meters()
    limit = Limit(10, 20, drop=True, clock=clock)
    passed = []
    for wait in (0, 0, 1, 0.55, 60):
        clock.now += wait
        taken = pipeline.run(Job("j", (), stages=(limit,)), b"x\n" * 30, READ, {})
        pipeline.settle(taken, meters)
        assert taken.lines == 30
        passed.append(len(taken.entries))
    assert passed == [20, 0, 10, 5, 20]
    assert b'logentry_dropped_lines_total{reason="ratelimit_drop_stage"} 95.0' in meters.exposition()


def test_what_comes_too_fast_is_left_in_its_file_until_its_time_comes() -> None:
    clock, meters = Clock(), Meters()
    limit = Limit(100, 5, clock=clock)
    lines = [str(number) for number in range(300)]
    passed = []
    for wait in (0, 0, 0.01, 1, 1):
        clock.now += wait
        passed.append(take(limit, lines, meters))
        lines = lines[passed[-1] :]
    # One that is looked at every second only lets all of its second pass, though its burst is less.
    assert passed == [5, 0, 1, 100, 100]
    clock.now += 60
    assert take(limit, lines, meters) == 5
    assert b"logentry_dropped_lines_total{" not in meters.exposition()


def test_lines_that_are_read_again_cost_nothing_the_first_time() -> None:
    clock = Clock()
    limit = Limit(1, 3, drop=True, clock=clock)
    found, meters = in_pieces([limit, Multiline("^1")], ["1", "a", "1"], [1, 2, 2, 2])
    assert [line for _, line, _ in found] == ["1\na", "1"]
    assert b"logentry_dropped_lines_total{" not in meters.exposition()
    assert limit(made(["x"])).lines.to_pylist() == []


def test_each_value_of_a_label_has_its_own_rate() -> None:
    clock, meters = Clock(), Meters()
    limit = Limit(1, 2, drop=True, label="app", clock=clock)
    pipe = (Regex(r"^(?P<app>[ab])"), Labels({"app": None}), limit)
    for expected in (["a1", "b1", "a2", "-", "-", "-"], ["b1", "-", "-", "-"], ["-", "-", "-"]):
        block = b"a1\nb1\na2\n-\na3\n-\na4\n-\n"
        taken = pipeline.run(Job("j", (), stages=pipe), block, READ, {})
        pipeline.settle(taken, meters)
        assert [line for _, line, _ in rows(taken.entries)] == expected
    text = meters.exposition().decode()
    assert 'logentry_dropped_lines_by_label_total{label_name="app",label_value="a"} 10.0' in text
    assert 'logentry_dropped_lines_total{reason="ratelimit_drop_stage"} 11.0' in text


def test_only_so_many_values_are_remembered() -> None:
    limit = Limit(1, 1, drop=True, label="app", distinct=2, clock=Clock())
    pipe = (Regex(r"^(?P<app>.)"), Labels({"app": None}), limit)
    meters = Meters()
    for text in ("aabbccddee", "a"):
        block = "".join(f"{character}\n" for character in text).encode()
        pipeline.settle(pipeline.run(Job("j", (), stages=pipe), block, READ, {}), meters)
    assert len(limit._tokens) + len(limit._older) <= 4
    assert "a" in limit._tokens


def test_sampling_lets_about_the_rate_pass() -> None:
    found = Sampling(0.25, seed=1)(made(["x"] * 10_000))
    assert 2300 < len(found) < 2700
    assert len(Sampling(1)(made(["x"] * 100))) == 100
    assert len(Sampling(0)(made(["x"] * 100))) == 0
    _, meters = in_pieces([stage("- sampling: {rate: 0, drop_counter_reason: chance}")], ["a", "b"], [1])
    assert b'logentry_dropped_lines_total{reason="chance"} 2.0' in meters.exposition()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 30)), max_size=20), st.integers(1, 10), st.integers(1, 10))
def test_a_limit_that_drops_is_a_token_bucket(reads: list[tuple[float, int]], rate: int, burst: int) -> None:
    clock = Clock()
    limit = Limit(rate, burst, drop=True, clock=clock)
    tokens, meters = float(burst), Meters()
    for wait, count in reads:
        clock.now += wait
        tokens = min(burst, tokens + wait * rate)
        allowed = min(count, int(tokens + 1e-9))
        taken = pipeline.run(Job("j", (), stages=(limit,)), b"x\n" * count, READ, {})
        pipeline.settle(taken, meters)
        assert abs(len(taken.entries) - allowed) <= (abs(tokens - round(tokens)) < 1e-6)
        if len(taken.entries) != allowed:
            return
        tokens -= allowed


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- limit: {rate: 10}", "1: the stage limit: it needs a rate and a burst of more than 0"),
        ("- limit: {rate: fast, burst: 1}", "rate is 'fast', not a number"),
        ("- limit: {rate: 1, burst: 1.5}", "burst is '1.5', not a whole number"),
        ("- limit: {rate: 1, burst: 1, by_label_name: x}", "by_label_name needs `drop: true`"),
        ("- sampling: {rate: 2}", "rate is 2; it is a probability"),
        ("- sampling: {rate: -0.1}", "rate is -0.1; it is a probability"),
        ("- sampling: {share: 1}", "sampling: 'share' is not known"),
    ],
)
def test_a_wrong_limit_is_refused_with_its_line(text: str, problem: str) -> None:
    assert problem in "\n".join(built(text)[1])


def test_a_copy_of_stages_has_a_state_of_its_own() -> None:
    text = "- cri: {}\n- docker: {}\n- limit: {rate: 1, burst: 3, drop: true}\n- sampling: {rate: 1}\n"
    text += '- match: {selector: \'{job="j"} |= "a"\', stages: [{multiline: {firstline: a}}]}\n'
    text += "- metrics: {n: {type: counter, config: {match_all: true, action: inc}}}\n- drop: {expression: c}"
    stages, problems = built(text)
    assert not problems
    for pipe in (copy.deepcopy(stages), copy.deepcopy(stages), stages):
        assert [line for _, line, _ in in_pieces(pipe, ["a", "b", "c", "d"], [2])[0]] == ["a", "b"]
