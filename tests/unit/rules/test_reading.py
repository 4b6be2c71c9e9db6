"""Rule files: what is read, every mistake with its line, and what is written reads back."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.environment.errors import ConfigurationError, InputError
from atalaia.environment.units import parse_duration
from atalaia.logql.parse import parse
from atalaia.rules.model import INTERVAL, MINUTE, Group, Rule
from atalaia.rules.reading import read_files, read_group, read_groups
from atalaia.rules.writing import duration, file_text, group_data, to_yaml

FILE = Path("rules.yaml")
S = 10**9


def problems(text: str) -> list[tuple[int, str]]:
    with pytest.raises(ConfigurationError) as caught:
        read_groups(text, FILE)
    assert all(problem.remedy for problem in caught.value.problems)
    return [(problem.line, problem.message) for problem in caught.value.problems]


def test_a_whole_file() -> None:
    (first, second) = read_groups(
        """\
groups:
  - name: one
    interval: 30s
    query_offset: 10s
    limit: 5
    labels: {team: db}
    rules:
      - alert: Many
        expr: sum(rate({job="postgres"}[5m])) > 1
        for: 5m
        keep_firing_for: 1h30m
        labels: {severity: page, number: 1}
        annotations:
          summary: "{{ $value }} lines"
      - record: lines:rate5m
        expr: |
          sum by (server)
            (rate({job="postgres"}[5m]))
  - name: two
""",
        FILE,
    )
    assert (first.name, first.interval, first.offset, first.limit) == ("one", 30 * S, 10 * S, 5)
    assert first.labels == {"team": "db"}
    many, lines = first.rules
    assert many == Rule(
        "Many",
        'sum(rate({job="postgres"}[5m])) > 1',
        parse('sum(rate({job="postgres"}[5m])) > 1'),  # type: ignore[arg-type]
        False,
        5 * MINUTE,
        90 * MINUTE,
        {"severity": "page", "number": "1"},
        {"summary": "{{ $value }} lines"},
    )
    assert (lines.records, lines.name, lines.hold) == (True, "lines:rate5m", 0)
    assert second == Group("two", (), INTERVAL)


def test_all_mistakes_are_told_with_their_lines() -> None:
    assert problems(
        """\
groups:
  - interval: 0s
    limit: many
    rules:
      - alert: A
        record: b
        expr: vector(1)
      - expr: vector(1)
      - alert: ""
        expr: vector(1)
      - record: 1a
        expr: vector(1)
        for: 5m
      - alert: B
      - alert: C
        expr: '{a="b"}'
      - alert: D
        expr: |
          sum(
            rate({a="b"}[5m)
          )
        for: soon
        labels:
          a-b: x
          __name__: x
          c: "{{ nope }}"
          d: [1]
        annotations:
          summary: "{{ .x"
          summary: twice
        x: y
  - name: g
  - name: g
more: 1
"""
    ) == [
        (2, "the group has no name"),
        (2, "interval is '0s', no duration of at least 1s"),
        (3, "limit is 'many', no number of alerts or series"),
        (5, "the rule has both `alert` and `record`"),
        (8, "the rule has neither `alert` nor `record`"),
        (9, "`alert` has no name"),
        (11, "'1a' is not the name of a metric"),
        (13, "the recording rule: 'for' is not known to this version of Atalaia"),
        (14, "rule 'B' has no expression"),
        (16, "the expression of rule 'C' gives lines, not numbers"),
        (20, "the expression of rule 'D': parse error at line 2, col 15: missing closing ']' in duration: "
             "this range is not closed"),
        (22, "for is 'soon', no duration"),
        (24, "labels of rule 'D': 'a-b' is not a label's name"),
        (25, "labels of rule 'D': '__name__' is not a label's name"),
        (26, "labels of rule 'D': the template of 'c': function \"nope\" not defined"),
        (27, "labels of rule 'D': d is not a single value"),
        (30, "the key 'summary' stands twice in one mapping"),
        (31, "the alerting rule: 'x' is not known to this version of Atalaia"),
        (33, "a second group is called 'g'"),
        (34, "the file: 'more' is not known to this version of Atalaia"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("groups: 5", 1, "groups is 5, not a list"),
        ("- a", 1, "the file is ['a'], not a mapping"),
        ("groups:\n - 5", 2, "the group is 5, not a mapping"),
        ("groups: [", 1, "not YAML"),
        ("groups:\n- name: a\n  rules: [5]", 3, "the rule is 5, not a mapping"),
        ("groups:\n- name: a\n  limit: true", 3, "limit is True"),
        ('groups:\n- name: "\\ud800"', 2, "name has half a character"),
        ("groups:\n- name: a\n  interval: 200y", 3, "interval is '200y'"),
        ("groups:\n- name: a\n  rules:\n  - alert: A\n    expr: sum(", 5, "line 1, col 5"),
    ],
)
def test_mistakes(text: str, line: int, message: str) -> None:
    assert any(at == line and message in told for at, told in problems(text)), problems(text)


def test_a_few_lines_that_stand_for_millions_are_refused() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for n in range(1, 9):
        text += f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n"
    assert problems(text) == [(0, "a value cannot be read: it has more than 200000 values")]
    text = "a0: &a0 {x: 1}\n"
    for n in range(1, 9):
        text += f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n"
    assert problems(text) == [(0, "a value cannot be read: it has more than 200000 values")]
    assert problems("a: &a [*a]")[0][0] == 0
    assert problems("a: &a {<<: *a}")[0][0] == 0
    (group,) = read_groups("groups:\n- &a {name: a, limit: 3}\n- {<<: *a, name: b}\n", FILE)[1:]
    assert (group.name, group.limit) == ("b", 3)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("abc:-[]{}&*!|>#\"'\n 01\t%@`?,~<=") | st.characters(), max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for prefix in ("", "groups:\n- name: ", "groups:\n- name: g\n  rules:\n  - alert: A\n    expr: "):
        with contextlib.suppress(InputError):
            read_groups(prefix + text, FILE)


def test_mistakes_of_several_files_come_together(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text("groups:\n- rules: []\n")
    with pytest.raises(ConfigurationError) as caught:
        read_files([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert [problem.file.name for problem in caught.value.problems] == ["a.yaml", "b.yaml"]
    assert "no rule was changed" in caught.value.what
    with pytest.raises(InputError, match="cannot be read"):
        read_files([tmp_path / "c.yaml"])


def test_the_api_takes_one_group() -> None:
    assert read_group("name: a\nrules: []\n", FILE) == Group("a", ())
    with pytest.raises(InputError, match="whole rule file"):
        read_group("groups: []", FILE)
    with pytest.raises(ConfigurationError):
        read_group("", FILE)


@settings(deadline=None)
@given(st.integers(0, 10**19))
def test_durations_read_back(ns: int) -> None:
    assert parse_duration(duration(ns)) == ns


def test_durations_are_short() -> None:
    assert [duration(parse_duration(text)) for text in ("90m", "1w", "8d", "1d", "0", "1500ms")] == [
        "1h30m", "1w", "8d", "1d", "0s", "1s500ms",
    ]  # fmt: skip


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="{"), max_size=12)
NAME = TEXT.filter(bool)
LABELS = st.dictionaries(st.from_regex(r"[a-z_][a-z0-9]{0,5}", fullmatch=True), TEXT, max_size=3)
SECONDS = st.integers(0, 10**6).map(lambda n: n * S)
ALERTS = st.builds(
    lambda name, hold, keep, labels, annotations: Rule(
        name, "vector(1)", parse("vector(1)"), False, hold, keep, labels, annotations  # type: ignore[arg-type]
    ),
    NAME, SECONDS, SECONDS, LABELS, LABELS,
)  # fmt: skip
RECORDS = st.builds(
    lambda name, labels: Rule(name, "vector(1)", parse("vector(1)"), True, labels=labels),  # type: ignore[arg-type]
    st.from_regex(r"[a-z:]{1,8}", fullmatch=True), LABELS,
)  # fmt: skip
GROUPS = st.builds(
    Group,
    NAME,
    st.lists(ALERTS | RECORDS, max_size=3).map(tuple),
    st.integers(1, 10**6).map(lambda n: n * S),
    st.integers(0, 100),
    SECONDS,
    LABELS,
)


@settings(max_examples=50, deadline=None)
@given(st.lists(GROUPS, max_size=3, unique_by=lambda group: group.name))
def test_what_is_written_reads_back(groups: list[Group]) -> None:
    assert read_groups(file_text(groups), FILE) == tuple(groups)
    for group in groups:
        assert read_group(to_yaml(group_data(group)), FILE) == group
