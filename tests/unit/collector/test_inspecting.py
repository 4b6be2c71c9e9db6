from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import numpy as np
import pyarrow as pa
import pytest

from atalaia.cli.trial import moment, sent, story
from atalaia.collector import pipeline
from atalaia.collector.inspecting import Change, Inspected, Inspection
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Job
from atalaia.collector.stages.registry import build_stages
from atalaia.environment.yamlfile import Reader
from atalaia.store.batch import METADATA, SCHEMA

NOW = 1_700_000_000_000_000_000


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as changed:
        changed.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def job_of(stages: str) -> Job:
    reader = Reader(Path("p.yaml"))
    made = build_stages(reader, reader.load(dedent(stages)).value)
    assert not reader.problems
    return Job("j", (), stages=made)


def inspected(stages: str, lines: bytes, flush: int = pipeline.ALL) -> tuple[list[Inspected], pipeline.Taken]:
    told: list[Inspected] = []
    job = Inspection(told.append).job(job_of(stages))
    taken = pipeline.run(job, lines, NOW, {"job": "j"}, flush)
    plain = pipeline.run(job_of(stages), lines, NOW, {"job": "j"}, flush)
    assert (taken.lines, taken.entries.lines.to_pylist()) == (plain.lines, plain.entries.lines.to_pylist())
    assert not told
    pipeline.settle(taken, Meters())
    return told, taken


STAGES = r"""
- regex: {expression: '^(?P<level>\w+) (?P<at>\d+)(?: (?P<msg>.*))?$'}
- timestamp: {source: at, format: Unix, action_on_failure: skip}
- labels: {level: }
- static_labels: {job: other}
- labeldrop: [job]
- output: {source: msg}
- drop: {source: level, value: DEBUG}
"""


def test_each_stages_changes_are_told_entry_by_entry() -> None:
    told, _ = inspected(STAGES, b"INFO 5 hello\nDEBUG 6 x\nnothing\n")
    assert [(one.line, one.ts, one.labels) for one in told] == [
        ("INFO 5 hello", NOW, {"job": "j"}),
        ("DEBUG 6 x", NOW, {"job": "j"}),
        ("nothing", NOW, {"job": "j"}),
    ]
    first, dropped, untouched = told
    assert first.steps == [
        ("regex", [Change("extracted", n, None, v) for n, v in (("at", "5"), ("level", "INFO"), ("msg", "hello"))]),
        ("timestamp", [Change("time", "", NOW, 5_000_000_000)]),
        ("labels", [Change("label", "level", None, "INFO")]),
        ("static_labels", [Change("label", "job", "j", "other")]),
        ("labeldrop", [Change("label", "job", "other", None)]),
        ("output", [Change("line", "", "INFO 5 hello", "hello")]),
        ("drop", []),
    ]
    assert dropped.steps[-1] == ("drop", [Change("dropped")])
    assert {name: changes for name, changes in untouched.steps if changes} == {
        "static_labels": [Change("label", "job", "j", "other")],
        "labeldrop": [Change("label", "job", "other", None)],
    }


MULTILINE = r"""
- multiline: {firstline: '^\d'}
- regex: {expression: '^(?P<n>\d)'}
"""


def test_joined_lines_are_told_and_those_that_wait_are_not() -> None:
    told, taken = inspected(MULTILINE, b"1 a\n  b\n2 c\n", flush=0)
    assert taken.lines == 2
    assert [(one.line, one.steps[0][1]) for one in told] == [
        ("1 a", [Change("line", "", "1 a", "1 a\n  b")]),
        ("  b", [Change("joined")]),
    ]
    assert told[0].steps[1] == ("regex", [Change("extracted", "n", None, "1")])
    assert len(told[1].steps) == 1
    told, _ = inspected(MULTILINE, b"1 a\n  b\n2 c\n")
    assert [one.line for one in told] == ["1 a", "  b", "2 c"]


def test_stages_within_match_are_told_one_by_one() -> None:
    told, _ = inspected(
        """
        - match:
            selector: '{job="j"} |= "a"'
            stages:
            - static_labels: {a: "1"}
            - drop: {expression: 'ab'}
        - static_labels: {end: "1"}
        """,
        b"a\nab\nc\n",
    )
    end = ("static_labels", [Change("label", "end", None, "1")])
    inner = ("static_labels", [Change("label", "a", None, "1")])
    assert [one.steps for one in told] == [
        [inner, ("drop", []), end],
        [inner, ("drop", [Change("dropped")])],
        [("match", []), end],
    ]


def test_a_watched_pipeline_waits_as_long() -> None:
    job = job_of("[{multiline: {firstline: x, max_wait_time: 17s}}]")
    assert Inspection(lambda one: None).job(job).patience == job.patience == 17


@pytest.mark.usefixtures("utc")
def test_a_story_is_printed_with_and_without_colours() -> None:
    told, _ = inspected(STAGES, b"INFO 5 hello\nDEBUG 6 x\n")
    lines = list(story(told[0], {"box": "b"}, colours=False))
    start = '2023-11-14T22:13:20+0000\t{job="j"}\tINFO 5 hello'
    assert lines[0] == start
    assert [line.strip() for line in lines[1:]] == [
        'regex  + extracted at = "5"',
        '+ extracted level = "INFO"',
        '+ extracted msg = "hello"',
        "timestamp  ~ time: 2023-11-14T22:13:20+0000 -> 1970-01-01T00:00:05+0000",
        'labels  + label level = "INFO"',
        'static_labels  ~ label job: "j" -> "other"',
        'labeldrop  - label job = "other"',
        'output  ~ line: "INFO 5 hello" -> "hello"',
        "drop  no change",
        '=>  1970-01-01T00:00:05+0000\t{box="b", level="INFO"}\thello',
    ]
    gone = list(story(told[1], {}, colours=False))
    assert gone[-1].strip() == "drop  - dropped"
    assert "\x1b[32m+ label level" in "\n".join(story(told[0], {}, colours=True))


@pytest.mark.usefixtures("utc")
def test_what_is_sent_is_printed_as_promtail_does() -> None:
    table = pa.table(
        {
            "ts": pa.array(np.array([NOW, NOW + 120]), pa.int64()),
            "labels": pa.array(['{"b":"q\\"é","a":"1"}', "{}"]).dictionary_encode(),
            "line": ["one\ttab", "two"],
            "metadata": pa.array([None, [("k", "v")]], METADATA),
        }
    ).cast(SCHEMA)
    assert list(sent(table, colours=False)) == [
        '2023-11-14T22:13:20+0000\t{a="1", b="q\\"é"}\tone\ttab\n',
        '2023-11-14T22:13:20.00000012+0000\t{}\ttwo\t{k="v"}\n',
    ]
    assert next(sent(table, colours=True)).startswith("\x1b[34m2023")
    assert moment(-1) == "1969-12-31T23:59:59.999999999+0000"
