"""Which streams a selector selects."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql.plan import by_stream
from atalaia.logql.select import matcher_tests

from .sqlcheck import log_query

CASES = [
    ('{app="a"}', {"app": "a"}, True),
    ('{app="a"}', {"app": "A"}, False),
    ('{app="a"}', {"app": "ab"}, False),
    ('{app="a"}', {"job": "a"}, False),
    ('{app="a", x=""}', {"app": "a"}, True),
    ('{app="a", x=""}', {"app": "a", "x": "1"}, False),
    ('{app="a", x!=""}', {"app": "a"}, False),
    ('{app="a", x!="1"}', {"app": "a"}, True),
    ('{app="a", x!="1"}', {"app": "a", "x": "1"}, False),
    ('{app=~"a|b"}', {"app": "b"}, True),
    ('{app=~"a|b"}', {"app": "ab"}, False),
    ('{app=~"a|ab"}', {"app": "ab"}, True),
    ('{app=~"b"}', {"app": "abc"}, False),
    ('{app=~"a.b"}', {"app": "a\nb"}, True),
    ('{app=~"a.*"}', {"app": "a\n"}, True),
    ('{app=~"(?i)A"}', {"app": "a"}, True),
    ('{app=~"^a$"}', {"app": "a"}, True),
    ('{app=~".+"}', {"job": "a"}, False),
    ('{app="a", x=~".*"}', {"app": "a"}, True),
    ('{app="a", x=~"1?"}', {"app": "a"}, True),
    ('{app="a", x=~".+"}', {"app": "a"}, False),
    ('{app="a", x!~"1"}', {"app": "a"}, True),
    ('{app="a", x!~"1?"}', {"app": "a"}, False),
    ('{app="a", x!~".+"}', {"app": "a", "x": "1"}, False),
    ('{app="a", app!="b"}', {"app": "a"}, True),
    ('{app=~".+", app!~"b.*"}', {"app": "bc"}, False),
    ('{app="é\\"\\\\"}', {"app": 'é"\\'}, True),
]


@pytest.mark.parametrize(("selector", "labels", "selected"), CASES)
def test_selectors(selector: str, labels: dict[str, str], selected: bool) -> None:
    tests = matcher_tests(log_query(selector).selector)
    assert all(test(labels.get(name, "")) for name, test in tests) is selected


@given(st.dictionaries(st.integers(1, 400), st.sampled_from(["'a'", "'b'", "'c'"]), min_size=1, max_size=120))
@settings(max_examples=30, deadline=None)
def test_what_belongs_to_a_stream(values: dict[int, str]) -> None:
    with duckdb.connect() as connection:
        sql = f"SELECT stream_id, {by_stream(values)} FROM (SELECT unnest(range(401)) AS stream_id)"
        found = dict(connection.execute(sql).fetchall())
    assert found == {number: values[number].strip("'") if number in values else None for number in range(401)}
