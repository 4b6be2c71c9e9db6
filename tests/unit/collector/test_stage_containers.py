"""The stages cri and docker."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import re2
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.collector.flow_support import READ, built, in_pieces, made, rows, stage

from atalaia.collector.stages.cri import Cri
from atalaia.collector.stages.docker import Docker
from atalaia.collector.stages.narrow import narrowed

T1, T2, T3 = "2024-05-01T10:00:00.1Z", "2024-05-01T10:00:01.123456789Z", "2024-05-01T12:00:02+02:00"
N1, N2, N3 = 1714557600_100000000, 1714557601_123456789, 1714557602_000000000


def test_cri_lines_become_their_text_their_stream_and_their_time() -> None:
    found = stage("- cri: {}")(
        made([f"{T1} stdout F a  b", f"{T2} stderr F ", f"{T3} stdout F:x {{}}", "nothing of that"], {"job": "j"})
    )
    assert rows(found) == [
        ({"job": "j", "stream": "stdout"}, "a  b", N1),
        ({"job": "j", "stream": "stderr"}, "", N2),
        ({"job": "j", "stream": "stdout"}, "{}", N3),
        ({"job": "j"}, "nothing of that", READ + 3),
    ]
    assert found.source("flags").to_pylist() == ["F", "F", "F:x", None]
    assert found.source("time").to_pylist() == [T1, T2, T3, None]


def test_a_line_without_a_time_gets_the_one_before_it_and_a_nanosecond() -> None:
    found = Cri()(made([f"{T1} stdout F a", "yesterday stdout F b"]))
    assert rows(found) == [({"stream": "stdout"}, "a", N1), ({"stream": "stdout"}, "b", N1 + 1)]


def test_unfinished_lines_go_on_in_the_next_one_of_their_stream() -> None:
    lines = [f"{T1} stdout P ab", f"{T1} stderr F other", f"{T2} stdout P cd", f"{T3} stdout F ef", f"{T3} stdout F g"]
    found = Cri()(made(lines))
    assert rows(found) == [
        ({"stream": "stdout"}, "abcdef", N3),
        ({"stream": "stderr"}, "other", N1),
        ({"stream": "stdout"}, "g", N3),
    ]
    assert found.first_lines.tolist() == [0, 1, 4]
    assert found.last_lines.tolist() == [3, 1, 4]
    assert found.held is None


def test_an_unfinished_line_waits_and_is_passed_on_at_last() -> None:
    lines = [f"{T1} stdout F a", f"{T1} stdout P b", f"{T1} stderr F c", f"{T2} stdout F d"]
    found, _ = in_pieces([Cri()], lines, [2, 3, 4])
    assert [line for _, line, _ in found] == ["a", "bd", "c"]
    found, _ = in_pieces([Cri()], lines, [2, 2, 4], {1: 2})
    assert [line for _, line, _ in found] == ["a", "b", "c", "d"]


def test_joined_lines_are_cut_where_a_character_ends() -> None:
    cri = stage("- cri: {max_partial_line_size: 5, max_partial_line_size_truncate: true}")
    lines = [f"{T1} stdout P abé", f"{T1} stdout F éxyz", f"{T1} stdout F never cut: it is one line"]
    assert [line for _, line, _ in rows(cri(made(lines)))] == ["abé", "never cut: it is one line"]
    whole = stage("- cri: {max_partial_line_size: 5}")
    assert rows(whole(made(lines)))[0][1] == "abééxyz"


def test_more_streams_with_unfinished_lines_than_allowed_are_passed_on() -> None:
    lines = [f"{T1} stdout P a", f"{T1} stderr P b", f"{T1} stdout P c", f"{T1} stdout F d", f"{T1} stderr F e"]
    found = stage("- cri: {max_partial_lines: 2}")(made(lines))
    assert sorted(line for _, line, _ in rows(found)) == ["a", "b", "cd", "e"]
    assert [line for _, line, _ in rows(Cri(most=1)(made(lines[:1] * 3)))] == ["a", "a", "a"]


def test_what_no_later_stage_reads_is_not_kept() -> None:
    lines = [f"{T1} stdout P a", f"{T1} stderr F b", f"{T1} stdout F c"]
    text = "- cri: {}\n- labels: {flags: }\n- match: {selector: '{stream=\"stdout\"}', stages: [{labels: {at: time}}]}"
    whole = narrow = made(lines, {"job": "j"})
    stages, _ = built(text)
    for one in stages:
        whole = one(whole)
    for one in narrowed(stages):
        narrow = one(narrow)
    assert rows(narrow) == rows(whole)
    assert rows(whole)[0] == ({"job": "j", "stream": "stdout", "flags": "F", "at": T1}, "ac", N1)
    assert set(narrow.extracted) < set(whole.extracted)


EXPRESSION = re2.compile(r"^(?s)(?P<time>\S+?) (?P<stream>stdout|stderr) (?P<flags>\S+?) (?P<content>.*)$")


def model(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Stream and text, as one line after the other gives them; what is left at the end comes last."""
    found, pending = [], {}
    for line in lines:
        match = EXPRESSION.search(line)
        stream, flags, content = (match["stream"], match["flags"], match["content"]) if match else ("", "", line)
        content = pending.pop(stream, "") + content
        if flags == "P":
            pending[stream] = content
        else:
            found.append((stream, content))
    return found + list(pending.items())


WORD = st.sampled_from(["x", "", " ", "\t", "stdout", "P", "F", "ü", "a b"])
CRI = st.builds(
    "{} {} {} {}".format,
    st.sampled_from([T1, T2, "", "a\tb", "no-time"]),
    st.sampled_from(["stdout", "stderr", "stdin"]),
    st.sampled_from(["F", "P", "P", "F:P", ""]),
    st.lists(WORD, max_size=3).map(" ".join),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(CRI | st.lists(WORD, max_size=4).map(" ".join), max_size=25), st.lists(st.integers(0, 25), max_size=5))
def test_cri_is_its_expression_however_the_lines_are_cut_into_blocks(lines: list[str], ends: list[int]) -> None:
    found, _ = in_pieces([Cri()], lines, sorted(min(end, len(lines)) for end in ends))
    for stream in ("stdout", "stderr", ""):
        passed = [line for labels, line, _ in found if labels.get("stream", "") == stream]
        assert passed == [line for name, line in model(lines) if name == stream]


@settings(max_examples=100, deadline=None)
@given(st.lists(CRI, max_size=25), st.sampled_from([1, 2]), st.lists(st.integers(0, 25), max_size=5))
def test_however_few_streams_may_wait_nothing_is_lost(lines: list[str], most: int, ends: list[int]) -> None:
    ends = sorted(min(end, len(lines)) for end in ends)
    found, _ = in_pieces([Cri(most=most)], lines, ends)
    assert sorted("".join(line for _, line, _ in found)) == sorted("".join(line for _, line in model(lines)))
    whole, _ = in_pieces([Cri(most=most)], lines, [])
    assert [row[:2] for row in found] == [row[:2] for row in whole]


# -- docker


def docker_line(log: object, stream: object = "stdout", time: object = T2, **more: object) -> str:
    return json.dumps({"log": log, "stream": stream, **more, "time": time})


def test_docker_lines_become_their_text_their_stream_and_their_time() -> None:
    lines = [docker_line('a "b"\n'), docker_line("half", "stderr", T1), docker_line("é\u2028\\", attrs={"tag": "x"})]
    found = stage("- docker: {}")(made(lines, {"job": "j"}))
    assert rows(found) == [
        ({"job": "j", "stream": "stdout"}, 'a "b"\n', N2),
        ({"job": "j", "stream": "stderr"}, "half", N1),
        ({"job": "j", "stream": "stdout"}, "é\u2028\\", N2),
    ]
    assert found.source("timestamp").to_pylist() == [T2, T1, T2]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("no json", "no json"),
        ("", ""),
        ('{"log":"a"', '{"log":"a"'),
        ('{"log":"a"}', "a"),
        ('{"log":12,"stream":"stdout"}', "12"),
        ('{"log":null}', '{"log":null}'),
        ('{"stream":"stdout"}', '{"stream":"stdout"}'),
        ('{"log":"a"} {"log":"b"}', '{"log":"a"} {"log":"b"}'),
        ('{"log":"a"}null}', '{"log":"a"}null}'),
        ('  {"log":"a"} ', "a"),
        ("[1]", "[1]"),
        ("null", "null"),
    ],
)
def test_what_is_no_docker_line_stays_and_spoils_no_other(line: str, expected: str) -> None:
    found = Docker()(made([docker_line("before\n"), line, docker_line("after\n")]))
    assert [text for _, text, _ in rows(found)] == ["before\n", expected, "after\n"]
    assert [text for _, text, _ in rows(Docker()(made([line])))] == [expected]


def test_what_a_docker_line_does_not_have_is_not_taken_from_before() -> None:
    for lines in (['{"stream":"stdout"}', docker_line("a")], ['{"stream":"stdout"}', "no json"]):
        found = Docker()(made(lines, {"stream": "earlier"}, {"output": ["x", "y"], "timestamp": [T1, T1]}))
        assert rows(found)[0][:2] == ({"stream": "stdout"}, lines[0])
    assert found.source("timestamp").to_pylist() == [None, T1]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8), st.booleans())
def test_any_text_comes_out_of_docker_as_it_went_in(texts: list[str], ascii_only: bool) -> None:
    lines = [json.dumps({"log": text, "stream": "stderr", "time": T1}, ensure_ascii=ascii_only) for text in texts]
    assert rows(Docker()(made(lines))) == [({"stream": "stderr"}, text, N1) for text in texts]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("- cri: {max_partial_line_size_truncate: true}", "would leave nothing without max_partial_line_size"),
        ("- cri: {max_partial_line_size: much}", "max_partial_line_size is 'much', not a size"),
        ("- cri: {max_partial_lines: -1}", "max_partial_lines is '-1', not a whole number"),
        ("- cri: {lines: 1}", "cri: 'lines' is not known"),
        ("- docker: {source: x}", "docker: 'source' is not known"),
    ],
)
def test_wrong_settings_are_refused_with_their_line(text: str, problem: str) -> None:
    assert problem in "\n".join(built(text)[1])
