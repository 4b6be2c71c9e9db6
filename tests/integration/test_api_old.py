"""The paths of Loki before version 1."""

from __future__ import annotations

import json

import pytest
from api_support import HOUR, NOW, S, Tenant, served, tenant

__all__ = ["served", "tenant"]
RANGE = {"start": NOW - HOUR, "end": NOW + HOUR}


@pytest.fixture
def pushed(tenant: Tenant) -> Tenant:
    """Two streams, pushed the old way."""
    entries = [
        {"ts": "2023-11-14T22:13:20Z", "line": "one"},
        {"ts": "2023-11-14T22:13:20.5Z", "line": 'two "2"'},
        {"ts": "2023-11-14T23:13:21.000000001+01:00", "line": "three"},
    ]
    streams = [
        {"labels": '{job="a", q="\\"\\n"}', "entries": entries},
        {"labels": '{job="b"}', "entries": entries[:1]},
    ]
    answer = tenant.call("/api/prom/push", "POST", json={"streams": streams})
    assert answer.status_code == 204, answer.text
    return tenant


def query(tenant: Tenant, **parameters: object) -> list[dict[str, object]]:
    answer = tenant.call("/api/prom/query", params={**RANGE, **parameters})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["streams"])


def test_query(pushed: Tenant) -> None:
    assert query(pushed, query='{job="a"}', limit=2) == [
        {
            "labels": '{job="a", q="\\"\\n"}',
            "entries": [
                {"ts": "2023-11-14T22:13:21.000000001Z", "line": "three"},
                {"ts": "2023-11-14T22:13:20.5Z", "line": 'two "2"'},
            ],
        }
    ]
    both = query(pushed, query='{job=~".+"}', direction="FORWARD")
    assert sorted((stream["labels"], len(list(stream["entries"]))) for stream in both) == [  # type: ignore[call-overload]
        ('{job="a", q="\\"\\n"}', 3), ('{job="b"}', 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("regexp", "lines"), [("^t.o", ['two "2"']), ('"', ['two "2"']), ("one|three", ["one", "three"])]
)
def test_regexp_is_one_more_filter(pushed: Tenant, regexp: str, lines: list[str]) -> None:
    found = query(pushed, query='{job="a"} # a comment', regexp=regexp, direction="forward")
    assert [entry["line"] for stream in found for entry in stream["entries"]] == lines  # type: ignore[attr-defined]


def test_names(pushed: Tenant) -> None:
    assert pushed.call("/api/prom/label", params=RANGE).json() == {"values": ["job", "q"]}
    assert pushed.call("/api/prom/label/job/values", params=RANGE).json() == {"values": ["a", "b"]}
    found = pushed.call("/api/prom/series", params={**RANGE, "match[]": '{job="b"}'}).json()
    assert found == {"status": "success", "data": [{"job": "b"}]}


def test_what_is_refused(pushed: Tenant) -> None:
    for parameters, message in (
        ({"query": 'rate({job="a"}[1m])'}, "legacy endpoints only support streams result type, current type is matrix"),
        ({"query": '{job="a"}', "regexp": "("}, "invalid regular expression"),
        ({"query": "{"}, "parse error at line 1, col 2"),
        ({}, "the parameter 'query' is missing"),
    ):
        answer = pushed.call("/api/prom/query", params=parameters)
        assert (answer.status_code, message in answer.text) == (400, True), answer.text
    body = {"streams": [{"labels": '{job="a"}', "entries": [{"timestamp": str(NOW), "line": "x"}]}]}
    answer = pushed.call(
        "/api/prom/push", "POST", content=json.dumps(body), headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, "'ts' is missing" in answer.text) == (400, True)


def test_a_moment_has_as_many_digits_as_it_needs(tenant: Tenant) -> None:
    tenant.push({"a": "b"}, [(NOW + 10**6 * n, str(n)) for n in range(3)] + [(NOW + 2 * S, "s")])
    (stream,) = query(tenant, query='{a="b"}', direction="forward")
    assert [entry["ts"] for entry in stream["entries"]] == [  # type: ignore[attr-defined]
        "2023-11-14T22:13:20Z", "2023-11-14T22:13:20.001Z", "2023-11-14T22:13:20.002Z", "2023-11-14T22:13:22Z",
    ]  # fmt: skip
