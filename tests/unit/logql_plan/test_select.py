"""Which streams a selector selects."""

from __future__ import annotations

import pytest

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
