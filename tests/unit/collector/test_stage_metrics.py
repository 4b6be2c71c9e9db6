from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.collector.flow_support import READ, built, in_pieces

from atalaia.collector import pipeline
from atalaia.collector.families import Families, Family
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Job
from atalaia.collector.stages.labels import Labels
from atalaia.collector.stages.metrics import numbers
from atalaia.collector.stages.multiline import Multiline
from atalaia.collector.stages.regex import Regex

LINES = ["GET 200 0.5s", "POST 500 1m", "GET 200 20ms", "odd", "GET 404 7"]
TAKE = "- regex: {expression: '^(?P<method>\\w+) (?P<status>\\d+) (?P<took>\\S+)$'}\n- labels: {method: }\n"


def counted(config: str, lines: list[str] = LINES) -> list[str]:
    """The samples that a metrics stage makes of the lines."""
    stages, problems = built(TAKE + "- metrics:\n" + config)
    assert not problems, problems
    meters = Meters()
    block = "".join(f"{line}\n" for line in lines).encode()
    pipeline.settle(pipeline.run(Job("j", (), stages=stages), block, READ, {"job": "j"}, pipeline.ALL), meters)
    text = meters.exposition().decode()
    return [line for line in text.splitlines() if "custom" in line]


def test_a_counter_counts_what_was_extracted_by_label_set() -> None:
    assert counted("    hits_total: {type: Counter, description: seen, source: status, config: {action: inc}}") == [
        "# HELP promtail_custom_hits_total seen",
        "# TYPE promtail_custom_hits_total counter",
        'promtail_custom_hits_total{job="j",method="GET"} 3.0',
        'promtail_custom_hits_total{job="j",method="POST"} 1.0',
    ]


def test_a_counters_value_narrows_it_and_its_name_stays_as_it_is() -> None:
    found = counted("    fine: {type: counter, source: status, prefix: my_custom_, config: {value: 200, action: INC}}")
    assert found[1:] == ["# TYPE my_custom_fine untyped", 'my_custom_fine{job="j",method="GET"} 2.0']


def test_a_counter_adds_numbers_and_durations_in_seconds_and_passes_over_the_rest() -> None:
    found = counted("    took: {type: counter, config: {action: add}}", [*LINES, "GET 1 soon", "GET 1 -3", "GET 1 1e1"])
    assert found[2:] == [
        'promtail_custom_took{job="j",method="GET"} 17.52',
        'promtail_custom_took{job="j",method="POST"} 60.0',
    ]


def test_match_all_counts_entries_and_bytes() -> None:
    lines = counted("    lines: {type: counter, config: {match_all: true, action: inc}}")
    assert 'promtail_custom_lines{job="j"} 1.0' in lines
    assert 'promtail_custom_lines{job="j",method="GET"} 3.0' in lines
    sizes = counted(
        "    bytes: {type: counter, config: {match_all: true, count_entry_bytes: true, action: add}}", ["odd", "é"]
    )
    assert sizes[2:] == ['promtail_custom_bytes{job="j"} 5.0']


@pytest.mark.parametrize(
    ("action", "get", "post"), [("set", 7, 60), ("inc", 3, 1), ("dec", -3, -1), ("add", 7.52, 60), ("sub", -7.52, -60)]
)
def test_a_gauge_does_what_its_action_says(action: str, get: float, post: float) -> None:
    found = counted(f"    g: {{type: gauge, source: took, config: {{action: {action}}}}}")
    assert found[2:] == [
        f'promtail_custom_g{{job="j",method="GET"}} {float(get)}',
        f'promtail_custom_g{{job="j",method="POST"}} {float(post)}',
    ]


def test_a_histogram_has_buckets_a_sum_and_a_count() -> None:
    found = counted("    h: {type: histogram, source: took, config: {buckets: [0.02, 0.5, 10]}}")
    assert found[1] == "# TYPE promtail_custom_h histogram"
    assert [line for line in found if "GET" in line] == [
        'promtail_custom_h_bucket{job="j",le="0.02",method="GET"} 1.0',
        'promtail_custom_h_bucket{job="j",le="0.5",method="GET"} 2.0',
        'promtail_custom_h_bucket{job="j",le="10",method="GET"} 3.0',
        'promtail_custom_h_bucket{job="j",le="+Inf",method="GET"} 3.0',
        'promtail_custom_h_sum{job="j",method="GET"} 7.52',
        'promtail_custom_h_count{job="j",method="GET"} 3.0',
    ]
    assert sum("_bucket" in line for line in counted("    h: {type: histogram, source: took}", ["GET 1 1"])) == 12


def test_lines_that_are_held_and_read_again_are_counted_once() -> None:
    stages, _ = built("- metrics: {n: {type: counter, config: {match_all: true, action: inc}}}")
    lines = ["1", "a", "b", "1", "c", "1"]
    for pipe in ((*stages, Multiline("^1")), (Multiline("^1"), *stages)):
        _, meters = in_pieces(pipe, lines, [1, 2, 3, 4, 5])
        expected = 6 if pipe[0] is stages[0] else 3
        assert f'promtail_custom_n{{job="j"}} {expected}.0' in meters.exposition().decode()


def test_idle_series_vanish_and_begin_anew() -> None:
    now = 0.0
    families = Families(clock=lambda: now)
    short, long = Family("a", "gauge", idle=10), Family("b", "gauge", idle=100)
    for family in (short, long):
        families.set(family, '{"x":"y"}', 5)
    now = 9.0
    families.set(short, '{"x":"z"}', 6)
    now = 10.0
    assert [(m.name, [(s.labels, s.value) for s in m.samples]) for m in families.collect()] == [
        ("a", [({"x": "z"}, 6)]),
        ("b", [({"x": "y"}, 5)]),
    ]
    now = 200.0
    assert list(families.collect()) == []
    families.add(short, '{"x":"y"}', 1)
    assert [s.value for m in families.collect() for s in m.samples] == [1]


def test_names_with_two_underscores_are_prometheus_own() -> None:
    families = Families()
    families.add(Family("a", "counter"), '{"__x":"1","y":"2"}', 1)
    families.add(Family("a", "counter"), '{"__x":"2","y":"2"}', 1)
    assert [(s.labels, s.value) for m in families.collect() for s in m.samples] == [({"y": "2"}, 2)]


def test_a_name_is_one_metrics_only(caplog: pytest.LogCaptureFixture) -> None:
    families = Families(["promtail_read_lines_total"])
    families.add(Family("a", "counter"), "{}", 1)
    for _ in range(2):
        families.add(Family("a", "gauge"), "{}", 1)
        families.add(Family("promtail_read_lines_total", "counter"), "{}", 1)
    assert [s.value for m in families.collect() for s in m.samples] == [1]
    assert [record.getMessage().split()[1] for record in caplog.records] == [
        "metric=a",
        "metric=promtail_read_lines_total",
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from(["1", "-2.5", "+3", "1e3", ".5", "5.", "0x1p3", "1h2m", "5 s", "", "x", "true", "inf"]))
)
def test_numbers_are_read_as_go_reads_them(texts: list[str]) -> None:
    read = {"1": 1.0, "-2.5": -2.5, "+3": 3.0, "1e3": 1000.0, ".5": 0.5, "5.": 5.0, "0x1p3": 8.0, "1h2m": 3720.0}
    read |= {"true": 1.0, "inf": float("inf")}
    found, known = numbers(pa.array(texts, pa.utf8()))
    assert known.tolist() == [text in read for text in texts]
    assert found[known].tolist() == [read[text] for text in texts if text in read]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 9)), max_size=30), st.lists(st.integers(0, 30)))
def test_sums_by_stream_are_those_of_a_loop(entries: list[tuple[str, int]], ends: list[int]) -> None:
    stages, _ = built(
        "- metrics:\n    n: {type: counter, config: {action: add}}\n    h: {type: histogram, source: n, "
        "config: {buckets: [2, 5]}}\n    last: {type: gauge, source: n, config: {action: set}}"
    )
    pipe = (Regex(r"(?P<s>.)(?P<n>\d)"), Labels({"s": None}), *stages)
    lines = [f"{stream}{number}" for stream, number in entries]
    _, meters = in_pieces(pipe, lines, sorted(min(end, len(lines)) for end in ends))
    text = meters.exposition().decode()
    for stream in "ab":
        own = [number for one, number in entries if one == stream]
        if own:
            labels = f'job="j",s="{stream}"'
            assert f"promtail_custom_n{{{labels}}} {float(sum(own))}\n" in text
            assert f"promtail_custom_last{{{labels}}} {float(own[-1])}\n" in text
            low = np.count_nonzero(np.array(own) <= 2)
            assert f'promtail_custom_h_bucket{{job="j",le="2",s="{stream}"}} {float(low)}\n' in text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- metrics:", "1: the stage metrics: it has no metrics"),
        ("- metrics:\n    a: {type: summary}", "2: the metric a: type is 'summary'"),
        ("- metrics:\n    a: {type: counter}", "config.action is ''; it can be inc, add"),
        ("- metrics:\n    a: {type: counter, config: {action: set}}", "config.action is 'set'"),
        ("- metrics:\n    a: {type: counter, config: {action: inc, match_all: true, value: x}}", "exclude each other"),
        (
            "- metrics:\n    a: {type: counter, config: {action: add, count_entry_bytes: true}}",
            "needs `match_all: true`",
        ),
        ("- metrics:\n    a: {type: gauge, max_idle_duration: 10ms, config: {action: set}}", "less than 1s"),
        ("- metrics:\n    a: {type: gauge, max_idle_duration: 10, config: {action: set}}", "not a duration"),
        ("- metrics:\n    a: {type: histogram, config: {buckets: [1, 1]}}", "its buckets do not rise"),
        ("- metrics:\n    a: {type: histogram, config: {buckets: [x]}}", "buckets is 'x', not a number"),
        ("- metrics:\n    a-b: {type: histogram}", "'promtail_custom_a-b' cannot be a metric's name"),
        ("- metrics:\n    a: {type: gauge, config: {action: set, match_all: true}}", "'match_all' is not known"),
    ],
)
def test_a_wrong_metric_is_refused_with_its_line(text: str, problem: str) -> None:
    assert problem in "\n".join(built(text)[1])
