"""Where a label is taken from: the stream, then structured metadata, then parsed; who comes late is _extracted."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql import entry as entries
from atalaia.query.engine import Engine

from .sqlcheck import Entry, labels, log_query, select


@pytest.mark.parametrize(
    ("stream", "metadata", "line", "found"),
    [
        ({"x": "s"}, {}, "y=p", {"x": "s", "y": "p"}),
        ({"x": "s"}, {}, "x=p", {"x": "s", "x_extracted": "p"}),
        ({"a": "s"}, {"x": "m"}, "x=p", {"a": "s", "x": "m", "x_extracted": "p"}),
        ({"x": "s"}, {"x": "m"}, "y=p", {"x": "s", "x_extracted": "m", "y": "p"}),
        ({"x": "s"}, {"x": "m"}, "x=p", {"x": "s", "x_extracted": "p"}),
        ({"x": "s", "x_extracted": "t"}, {}, "x=p", {"x": "s", "x_extracted": "t"}),
        ({"x": "s"}, {}, "x=p x_extracted=q", {"x": "s", "x_extracted": "q"}),
        ({"x": "s"}, {"x_extracted": "m"}, "x=p", {"x": "s", "x_extracted": "m"}),
    ],
)
def test_cases(stream: dict[str, str], metadata: dict[str, str], line: str, found: dict[str, str]) -> None:
    assert labels('{a="a"} | logfmt', Entry(line, stream, metadata)) == found


def test_origins_are_kept_apart() -> None:
    seen = entries.Entry(0, "", {"x": "s"}, {"x": "m", "y": "m"})
    seen.parse({"y": "p", "z": "p"})
    assert (seen.stream, seen.metadata, seen.parsed) == (
        {"x": "s"},
        {"x_extracted": "m", "y": "m"},
        {"y_extracted": "p", "z": "p"},
    )


def test_the_first_parser_that_finds_a_label_keeps_it(engine: Engine) -> None:
    entry = Entry('{"m":"a=2 b=3","a":1}')
    query = '{app="x"} | json | logfmt | json c="m"'
    assert labels(query, entry)["a"] == "1"
    assert select(engine, log_query(query), [entry], ["a", "c"]) == [[0, "1", "a=2 b=3", None]]


SOURCES = st.dictionaries(st.sampled_from(["x", "x_extracted", "y", "y_extracted"]), st.sampled_from("123"), max_size=3)


@given(st.lists(st.tuples(SOURCES, st.none() | SOURCES, SOURCES), min_size=1, max_size=5))
@settings(max_examples=100, deadline=None)
def test_sql_and_python_see_the_same(
    engine: Engine, parts: list[tuple[dict[str, str], dict[str, str] | None, dict[str, str]]]
) -> None:
    entries = [
        Entry(" ".join(f"{k}={v}" for k, v in parsed.items()), {"app": "a", **stream}, metadata)
        for stream, metadata, parsed in parts
    ]
    names = ["app", "x", "x_extracted", "x_extracted_extracted", "y", "y_extracted"]
    query = '{app="a"} | logfmt'
    for entry, (_, *values, _error) in zip(entries, select(engine, log_query(query), entries, names), strict=True):
        found = labels(query, entry)
        assert dict(zip(names, values, strict=True)) == {name: found.get(name) for name in names}
