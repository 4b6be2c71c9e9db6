"""Label filters: hand-checked cases, and SQL beside Python for random ones."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql.errors import TooComplex
from atalaia.logql.judge import judge
from atalaia.logql.plan import MAX_STAGES, Streams, compile_pipeline
from atalaia.logql.tree import (
    And,
    Bytes,
    Comparison,
    Condition,
    Duration,
    IpMatch,
    LabelFilter,
    Logfmt,
    LogQuery,
    Matcher,
    Number,
    Or,
    Selector,
)
from atalaia.query.engine import Engine

from .sqlcheck import Entry, labels, log_query, passing, select

# A pipeline, a line, whether the line passes, the error that it has then.
CASES = [
    # ---- texts; an absent label is empty
    ('logfmt | x="1"', "x=1", True, None),
    ('logfmt | x="1"', "x=2", False, None),
    ('logfmt | x="1"', "y=1", False, None),
    ('logfmt | x=""', "y=1", True, None),
    ('logfmt | x!=""', "y=1", False, None),
    ('logfmt | x!="1"', "y=1", True, None),
    ('logfmt | x=~"1.*"', "x=12", True, None),
    ('logfmt | x=~"2"', "x=123", False, None),
    ('logfmt | x=~".*"', "y=1", True, None),
    ('logfmt | x!~".+"', "y=1", True, None),
    ('logfmt | x=~"a.b"', 'x="a\\nb"', True, None),
    ('x="1" | logfmt', "x=1", False, None),  # before the parser there is no label
    # ---- numbers
    ("logfmt | x=5", "x=5.0", True, None),
    ("logfmt | x==5", "x=5e0", True, None),
    ("logfmt | x!=5", "x=6", True, None),
    ("logfmt | x>5", "x=5", False, None),
    ("logfmt | x>=5", "x=5", True, None),
    ("logfmt | x<-1", "x=-1.5", True, None),
    ("logfmt | x<=5", "x=+5", True, None),
    ("logfmt | x>5", "x=Inf", True, None),
    ("logfmt | x!=5", "x=NaN", True, None),
    ("logfmt | x==5", "x=NaN", False, None),
    ("logfmt | x==8", "x=0x1p3", True, None),
    ("logfmt | x>5", "y=9", False, None),  # absent: no error, no match
    ("logfmt | x!=5", "y=9", False, None),
    ("logfmt | x>5", "x=abc", True, "LabelFilterErr"),
    ("logfmt | x>5", "x=5kB", True, "LabelFilterErr"),
    ("logfmt | x>5", "x=1e999", True, "LabelFilterErr"),
    ("logfmt | x>5", "x=1_0", True, "LabelFilterErr"),
    ("logfmt --keep-empty | x>5", "x=", True, "LabelFilterErr"),
    # ---- durations and sizes
    ("logfmt | x>1s", "x=1500ms", True, None),
    ("logfmt | x>1s", "x=1h", True, None),
    ("logfmt | x>1s", "x=1s", False, None),
    ("logfmt | x==1m", "x=60s", True, None),
    ("logfmt | x>1s", "x=5", True, "LabelFilterErr"),
    ("logfmt | x>1s", "x=1d", True, "LabelFilterErr"),
    ("logfmt | x>1kB", "x=2KB", True, None),
    ("logfmt | x>1KiB", "x=1kB", False, None),
    ("logfmt | x==20MB", "x=20MB", True, None),
    ("logfmt | x>1kB", "x=2000", True, None),
    ("logfmt | x>1kB", "x=many", True, "LabelFilterErr"),
    # ---- and, or
    ('logfmt | x>1 and y="a"', "x=2 y=a", True, None),
    ('logfmt | x>1 and y="a"', "x=2 y=b", False, None),
    ('logfmt | x>1, y="a"', "x=abc y=a", True, "LabelFilterErr"),
    ('logfmt | x>1 and y="a"', "x=abc y=b", False, None),
    ('logfmt | y="a" and x>1', "x=abc y=b", False, None),
    ("logfmt | x>1 and y>1", "x=abc y=0", True, "LabelFilterErr"),  # once wrong, numbers let it pass
    ("logfmt | x>1 and y>1", "x=0 y=abc", False, None),
    ("logfmt | x>1 and y>1", "x=abc", False, None),
    ("logfmt | x>1 | y>1", "x=abc y=0", True, "LabelFilterErr"),
    ('logfmt | x>1 or y="a"', "x=0 y=a", True, None),
    ('logfmt | x>1 or y="a"', "x=2 y=b", True, None),
    ('logfmt | x>1 or y="a"', "x=abc y=b", True, "LabelFilterErr"),
    ('logfmt | y="a" or x>1', "x=abc y=a", True, None),  # the second is not looked at
    ('logfmt | y="a" or x>1', "x=abc y=b", True, "LabelFilterErr"),
    ('logfmt | (x>1 and y="b") or z>9', "x=abc y=a z=0", True, "LabelFilterErr"),
    ('logfmt | (x>1 and y="b") or z="1"', "x=abc y=a z=0", False, None),
    # ---- addresses: whoever has an error passes
    ('logfmt | x=ip("10.0.0.0/8")', "x=10.1.1.1", True, None),
    ('logfmt | x=ip("10.0.0.0/8")', "x=11.1.1.1", False, None),
    ('logfmt | x=ip("10.0.0.0/8")', "x=nobody", False, None),
    ('logfmt | x!=ip("10.0.0.0/8")', "x=nobody", True, None),
    ('logfmt | x!=ip("10.0.0.0/8")', "x=10.1.1.1", False, None),
    ('logfmt | x!=ip("10.0.0.0/8")', "y=1", False, None),
    ('json | x=ip("10.0.0.0/8")', "no", True, "JSONParserErr"),
    ('logfmt | y>1 and x=ip("10.0.0.0/8")', "y=abc x=1.1.1.1", True, "LabelFilterErr"),
    ('logfmt | x=ip("::1") or y="1"', "x=::2 y=1", True, None),
    # ---- errors are labels
    ('json | __error__=""', "no", False, None),
    ('json | __error__="JSONParserErr"', "no", True, "JSONParserErr"),
    ('json | __error__=""', "{}", True, None),
    ("json | x>1", "no", False, None),  # numbers need the label
    ("logfmt --strict | x>1", "x=0 =", True, "LogfmtParserErr"),  # with it, they let it pass
    ("logfmt --strict | x>1", "y=0 =", False, None),
    ("logfmt --strict | (x>1 or y>1) and z>1", "x=0 z=0 =", True, "LogfmtParserErr"),
    ('json | x="1"', "no", False, None),
    ('json | x!="1"', "no", True, "JSONParserErr"),
    ('logfmt | x>1 | __error__=""', "x=abc", False, None),
    ('logfmt | x>1 | __error__="LabelFilterErr"', "x=abc", True, "LabelFilterErr"),
    ('logfmt | x>1 | __error__!="LabelFilterErr"', "x=abc", False, None),
    ('__error__=""', "x", True, None),
    ('__error__!=""', "x", False, None),
    ('logfmt --strict | __error__=""', "x=1 =", False, None),
    ('logfmt --strict | x="1"', "x=1 =", True, "LogfmtParserErr"),
    ('json y="x" | __error__=""', "no", False, None),
    ('json y="x" | y="1"', '{"x":1}', True, None),
]


@pytest.mark.parametrize(("pipeline", "line", "passes", "error"), CASES)
def test_label_filters(engine: Engine, pipeline: str, line: str, passes: bool, error: str | None) -> None:
    query = f'{{app="a"}} | {pipeline}'
    found = select(engine, log_query(query), [Entry(line)])
    assert found == ([[0, error]] if passes else [])
    if passes:
        assert labels(query, Entry(line)).get("__error__") == error


NAMES = st.sampled_from("xyz")
AMOUNTS = st.one_of(
    st.sampled_from([0.0, 1.0, -2.5, 1e300]).map(Number),
    st.sampled_from([0, 10**9, -(10**6)]).map(Duration),
    st.sampled_from([0, 1000, 2**63, 2**64 - 1]).map(Bytes),
)
COMPARISONS = st.one_of(
    st.builds(Comparison, NAMES, st.sampled_from(["=", "!=", "=~", "!~"]), st.sampled_from(["", "1", "a", "1s"])),
    st.builds(Comparison, NAMES, st.sampled_from(["==", "!=", ">", ">=", "<", "<="]), AMOUNTS),
    st.builds(Comparison, NAMES, st.sampled_from(["=", "!="]), st.just(IpMatch("10.0.0.0/8"))),
    st.builds(Comparison, st.just("__error__"), st.sampled_from(["=", "!="]), st.sampled_from(["", "LabelFilterErr"])),
)
CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    COMPARISONS, lambda inner: st.builds(And, inner, inner) | st.builds(Or, inner, inner), max_leaves=6
)
VALUES = st.sampled_from(
    ["1", "1s", "a", "-2.5", "1kB", "1e999", "Inf", "nan", "0", str(2**64 - 1), "0x1p0", "10.1.2.3"]
)


@given(
    st.lists(CONDITIONS, min_size=1, max_size=3),
    st.lists(st.dictionaries(NAMES, VALUES, max_size=3), min_size=1, max_size=5),
)
@settings(max_examples=50, deadline=None)
def test_sql_and_python_judge_alike(engine: Engine, conditions: list[Condition], entries: list[dict[str, str]]) -> None:
    query = LogQuery(Selector((Matcher("app", "=", "a"),)), (Logfmt(), *map(LabelFilter, conditions)))
    expected: list[list[object]] = []
    for number, entry in enumerate(entries):
        fault: dict[str, str] = {}
        passes = True
        for condition in conditions:
            passed, fault = judge(condition, entry.get, fault)
            passes = passes and passed
        if passes:
            expected.append([number, fault.get("__error__")])
    lines = [Entry(" ".join(f"{k}={v}" for k, v in entry.items())) for entry in entries]
    assert select(engine, query, lines) == expected


def test_labels_of_streams_and_metadata_are_compared(engine: Engine) -> None:
    entries = [
        Entry("1", {"app": "a", "size": "5"}),
        Entry("2", {"app": "a"}, {"size": "15"}),
        Entry("3", {"app": "a", "size": "5"}, {"size": "15"}),
        Entry("4", {"app": "a"}, {}),
        Entry("5", {"app": "b", "size": "big"}),
    ]
    assert passing(engine, '{app="a"} | size > 10', entries) == ["2", "5"]
    assert passing(engine, '{app="a"} | size_extracted > 10', entries) == ["3"]
    assert passing(engine, '{app="a"} | app="b"', entries) == ["5"]
    assert passing(engine, '{app="a"} | size=""', entries) == ["4"]


def test_a_deep_condition_of_numbers_stays_small(engine: Engine) -> None:
    chain = " or ".join(f"x > {number}" for number in range(100, 210))
    assert passing(engine, f'{{app="a"}} | logfmt | {chain}', [Entry("x=1"), Entry("x=200")]) == ["x=200"]
    nested = "x > 1 and y > 1"
    for number in range(10):
        nested = f"({nested} or x > {number}) and y > {number}"
    lines = ["x=1 y=30", "x=30 y=30", "x=30 y=1", "x=a y=1"]
    expected = ["x=1 y=30", "x=30 y=30", "x=a y=1"]
    assert passing(engine, f'{{app="a"}} | logfmt | {nested} or x > 99', list(map(Entry, lines))) == expected


def test_too_complex_is_said() -> None:
    streams = Streams({1: {"app": "a"}})
    with pytest.raises(TooComplex, match="501 stages"):
        compile_pipeline(log_query('{app="a"}' + '|= "x"' * (MAX_STAGES + 1)), streams)
    some = Streams({number: {"app": "x" * 100 + str(number)} for number in range(400)})
    with pytest.raises(TooComplex, match="too complex"):
        compile_pipeline(log_query('{app=~".+"}' + "| app > 5" * 60), some).where()


def test_json_values_are_compared(engine: Engine) -> None:
    values = ["5", "5.0", '"5"', "true", "null", "{}", "[5]", "5e0", "-0", '"five"']
    lines = [json.dumps({"pad": 1})[:-1] + f', "x": {value}}}' for value in values]
    found = select(engine, log_query('{app="a"} | json | x >= 5'), [Entry(line) for line in lines], ["x"])
    assert found == [
        [0, "5", None],
        [1, "5.0", None],
        [2, "5", None],
        [3, "true", "LabelFilterErr"],
        [7, "5e0", None],
        [9, "five", "LabelFilterErr"],
    ]
