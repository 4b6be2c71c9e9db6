"""The exploring endpoints over HTTP: the shape of their answers, their parameters, what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
from tests.integration.api_support import HOUR, NOW, S, Tenant, served, tenant

__all__ = ["served", "tenant"]

RANGE = {"start": NOW - HOUR, "end": NOW + HOUR}


def plain(tenant: Tenant, path: str, **parameters: Any) -> Any:
    """An answer without Loki's envelope."""
    answer = tenant.call(f"/loki/api/v1/{path}", params={**RANGE, **parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def filled(tenant: Tenant) -> Tenant:
    """Four streams, the documentation's own example, with 10, 20, 30 and 40 bytes."""
    for number, (job, env, team) in enumerate(
        [("foo", "prod", "alpha"), ("bar", "prod", "beta"), ("foo", "dev", "alpha"), ("bar", "dev", "beta")], 1
    ):
        labels = {"job": job, "env": env, "team": team}
        tenant.push(labels, [(NOW + at * S, "x" * 10) for at in range(number)])
    return tenant


def test_stats(filled: Tenant) -> None:
    assert plain(filled, "index/stats", query='{job="foo"}') == {"streams": 2, "chunks": 2, "bytes": 40, "entries": 4}
    assert plain(filled, "index/stats", query='{job="foo"}', start=NOW + S, end=NOW + 2 * S)["entries"] == 1
    nothing = {"streams": 0, "chunks": 0, "bytes": 0, "entries": 0}
    assert plain(filled, "index/stats", query='{job="none"}') == nothing
    posted = filled.call("/loki/api/v1/index/stats", "POST", data={**RANGE, "query": '{job="foo"}'})
    assert posted.json()["bytes"] == 40


def volumes(tenant: Tenant, **parameters: Any) -> list[tuple[dict[str, str], str]]:
    found = tenant.get("index/volume", **{**RANGE, **parameters})
    assert found["resultType"] == "vector"
    assert all(one["value"][0] == (NOW + HOUR) // S for one in found["result"])
    return [(one["metric"], one["value"][1]) for one in found["result"]]


def test_volume(filled: Tenant) -> None:
    # The three cases of Loki's documentation.
    assert volumes(filled, query='{job="foo", env=~".+"}') == [
        ({"env": "dev", "job": "foo"}, "30"),
        ({"env": "prod", "job": "foo"}, "10"),
    ]
    assert volumes(filled, query='{team="alpha", env!="dev"}', targetLabels="team,job") == [
        ({"job": "foo", "team": "alpha"}, "10")
    ]
    assert volumes(filled, query='{env="dev"}', targetLabels="team", aggregateBy="labels") == [({"team": ""}, "70")]
    # A target is demanded, all labels are there for {}, and the limit keeps the largest.
    assert volumes(filled, query="{}", targetLabels="none") == []
    assert volumes(filled, query="{}", limit=1) == [({"env": "dev", "job": "bar", "team": "beta"}, "40")]
    assert [labels for labels, _ in volumes(filled, query="{}", aggregateBy="labels")] == [
        {"env": ""}, {"job": ""}, {"team": ""},
    ]  # fmt: skip
    assert len(volumes(filled, query="{}", limit=0)) == 4


def test_volume_range(filled: Tenant) -> None:
    found = filled.get("index/volume_range", query='{job="foo"}', start=NOW, end=NOW + 2 * S, step="1s")
    assert found["resultType"] == "matrix"
    # NOW is a multiple of the step; a step is told a millisecond before the next, the last one at the end.
    seconds = NOW // S
    assert found["result"] == [{"metric": {"job": "foo"}, "values": [[seconds + 0.999, "20"], [seconds + 2, "10"]]}]
    found = filled.get("index/volume_range", query='{job=~".+"}', targetLabels="env", **RANGE, step="2h")
    assert [one["metric"] for one in found["result"]] == [{"env": "dev"}, {"env": "prod"}]


@pytest.mark.parametrize(
    ("path", "parameters", "reason"),
    [
        ("index/stats", {}, "'query' is missing"),
        ("index/stats", {"query": "{}"}, "at least one regexp or equality matcher"),
        ("index/stats", {"query": '{a="b"} | json'}, "not a stream selector"),
        ("index/stats", {"query": '{a="b"}', "start": "2", "end": "1"}, "end timestamp must not be before start time"),
        ("index/volume", {"query": '{a="b"}', "aggregateBy": "job"}, "invalid aggregation option"),
        ("index/volume", {"query": '{a="b"}', "limit": "-1"}, "not a number"),
        ("index/volume_range", {"query": '{a="b"}', "step": "1ms"}, "11,000 points"),
        ("index/volume_range", {"query": '{a="b"}', "step": "0"}, "above zero"),
        ("patterns", {"query": '{a="b"} | json'}, "a selector and line filters alone"),
        ("patterns", {"query": 'rate({a="b"}[1m])'}, "only log queries"),
        ("patterns", {"query": '{a="b"}', "limit": "x"}, "not a number"),
        ("detected_fields", {"query": '{a="b"}', "line_limit": "0"}, "not a number"),
        ("detected_fields", {"query": '{a="b"}', "limit": "100001"}, "not a number"),
        ("detected_fields", {}, "'query' is missing"),
        ("detected_field/x/values", {"query": "{"}, "line 1"),
        ("detected_labels", {"query": "rate"}, "line 1"),
        ("series", {"match[]": '{a="b"} |= "x"'}, "not a stream selector"),
    ],
)
def test_refusals(tenant: Tenant, path: str, parameters: dict[str, str], reason: str) -> None:
    assert reason in tenant.refused(path, **parameters)


def test_patterns(tenant: Tenant) -> None:
    lines = [f"user u{n} from 10.0.0.{n}:54{n} logged in" for n in range(5)] + ["shutting down"] * 2
    tenant.push({"job": "app"}, [(NOW + n * S, line) for n, line in enumerate(lines)])
    seconds = NOW // S
    found = tenant.get("patterns", query='{job="app"}', step="5s", **RANGE)
    assert found == [
        {"pattern": "user <_> from <_> logged in", "samples": [[seconds, 5]]},
        {"pattern": "shutting down", "samples": [[seconds + 5, 2]]},
    ]
    for one in found:  # a pattern can be pasted into a query
        query = f'{{job="app"}} |> `{one["pattern"]}`'
        assert len(tenant.lines(query)) == sum(count for _, count in one["samples"])
    assert tenant.get("patterns", query='{job="app"} |= "down"', **RANGE)[0]["pattern"] == "shutting down"
    assert [one["pattern"] for one in tenant.get("patterns", query='{job="app"}', limit=1, **RANGE)] == [
        "user <_> from <_> logged in", "<_>",
    ]  # fmt: skip
    assert tenant.get("patterns", query='{job="none"}', **RANGE) == []
    # Samples are told in seconds: a shorter step is one second.
    assert len(tenant.get("patterns", query='{job="app"}', step="1ms", start=NOW, end=NOW + 9 * S)[0]["samples"]) == 5


def fields(tenant: Tenant, query: str, **parameters: Any) -> dict[str, dict[str, Any]]:
    found = plain(tenant, "detected_fields", query=query, **parameters)
    assert found["limit"] == parameters.get("limit", 1000)
    assert [one["label"] for one in found["fields"]] == sorted(one["label"] for one in found["fields"])
    return {one.pop("label"): one for one in found["fields"]}


def test_detected_fields(tenant: Tenant) -> None:
    tenant.push(
        {"job": "json"},
        [
            (NOW, '{"a": {"b c": 1}, "job": "x", "list": [1], "ok": true, "took": "12ms"}', {"trace": "t1", "n": "1"}),
            (NOW + S, '{"a": {"b c": 2.5}, "job": "y", "ok": false, "took": "1m", "size": "10 MB"}', {"trace": "t2"}),
        ],
    )
    tenant.push({"job": "logfmt"}, [(NOW, 'a=1 b="two words" c='), (NOW + S, "a=x"), (NOW + 2 * S, "plain text")])
    assert fields(tenant, '{job="json"}') == {
        "a_b_c": {"type": "float", "cardinality": 2, "parsers": ["json"], "jsonPath": ["a", "b c"]},
        "job_extracted": {"type": "string", "cardinality": 2, "parsers": ["json"], "jsonPath": ["job"]},
        "n": {"type": "int", "cardinality": 1, "parsers": None},
        "ok": {"type": "boolean", "cardinality": 2, "parsers": ["json"], "jsonPath": ["ok"]},
        "size": {"type": "bytes", "cardinality": 1, "parsers": ["json"], "jsonPath": ["size"]},
        "took": {"type": "duration", "cardinality": 2, "parsers": ["json"], "jsonPath": ["took"]},
        "trace": {"type": "string", "cardinality": 2, "parsers": None},
    }
    assert fields(tenant, '{job="logfmt"}') == {
        "a": {"type": "string", "cardinality": 2, "parsers": ["logfmt"]},
        "b": {"type": "string", "cardinality": 1, "parsers": ["logfmt"]},
    }
    # Stages of the query are respected, those that make labels too; the newest lines are looked at first.
    assert set(fields(tenant, '{job="logfmt"} | a="none"')) == set()
    assert fields(tenant, '{job="logfmt"} | regexp "(?P<word>pl\\\\w+)"')["word"] == {
        "type": "string", "cardinality": 1, "parsers": None,
    }  # fmt: skip
    assert fields(tenant, '{job="json"} | json | took="1m"')["took"]["cardinality"] == 1
    assert fields(tenant, '{job="json"} | line_format "k=v"')["k"]["parsers"] == ["logfmt"]
    assert fields(tenant, '{job="logfmt"}', line_limit=2) == {
        "a": {"type": "string", "cardinality": 1, "parsers": ["logfmt"]}
    }
    assert len(fields(tenant, '{job="json"}', limit=3)) == 3


def test_values_of_a_detected_field(tenant: Tenant) -> None:
    tenant.push({"job": "app"}, [(NOW + n * S, f'{{"user": "u{n % 3}"}}', {"pod": "p"}) for n in range(9)])
    found = plain(tenant, "detected_field/user/values", query='{job="app"}')
    assert found == {"values": ["u0", "u1", "u2"], "limit": 1000}
    assert plain(tenant, "detected_field/user/values", query='{job="app"} | json | user!="u1"')["values"] == [
        "u0",
        "u2",
    ]
    assert plain(tenant, "detected_field/pod/values", query='{job="app"}', limit=5) == {"values": ["p"], "limit": 5}
    assert len(plain(tenant, "detected_field/user/values", query='{job="app"}', limit=2)["values"]) == 2
    assert plain(tenant, "detected_field/none/values", query='{job="app"}')["values"] == []


def test_detected_labels(tenant: Tenant) -> None:
    ids = [f"6ba7b810-9dad-11d1-80b4-00c04fd430c{n}" for n in range(3)]
    for n in range(3):
        flag = str(n % 2)
        labels = {"job": "app" if n else "db", "pid": str(n), "session": ids[n], "pod": str(n), "main": flag}
        tenant.push(labels, [(NOW, "x")])
    found = plain(tenant, "detected_labels")["detectedLabels"]
    # Numbers and UUIDs are no labels to choose by, but 0 and 1 are, and pod always is one.
    assert found == [
        {"label": "job", "cardinality": 2},
        {"label": "main", "cardinality": 2},
        {"label": "pod", "cardinality": 3},
    ]
    assert plain(tenant, "detected_labels", query='{job="db"}')["detectedLabels"][0]["cardinality"] == 1
    assert plain(tenant, "detected_labels", start=1, end=2) == {"detectedLabels": []}


def test_labels_and_series(filled: Tenant) -> None:
    assert filled.get("labels", **RANGE) == filled.get("label", **RANGE, query="{}") == ["env", "job", "team"]
    assert filled.get("label/env/values", query='{job="foo"}', **RANGE) == ["dev", "prod"]
    assert filled.get("label/none/values", **RANGE) == []
    foo = filled.get("series", **{"match[]": '{job="foo", env="dev"}'}, **RANGE)
    assert foo == [{"env": "dev", "job": "foo", "team": "alpha"}]
    several = filled.call(
        "/loki/api/v1/series", "POST",
        data={"match[]": ['{job="foo", env="dev"}', '{team="beta"}'], "start": NOW - HOUR, "end": NOW + HOUR},
    ).json()["data"]  # fmt: skip
    assert len(several) == 3
    for query in ({}, {"match[]": "{}"}, {"match": '{job=~".+"}'}):
        assert len(filled.get("series", **query, **RANGE)) == 4


@pytest.mark.parametrize(
    "times",
    [
        {"start": NOW, "end": NOW},  # both ends belong to it
        {"start": NOW // S, "end": f"{NOW // S}.5"},
        {"start": "2023-11-14T22:13:20Z", "end": "2023-11-14T23:13:20.000000001+01:00"},
        {"end": NOW + S, "since": "1s"},
        {"end": NOW + HOUR},
    ],
)
def test_times_in_every_spelling(filled: Tenant, times: dict[str, Any]) -> None:
    assert filled.get("labels", **times) == ["env", "job", "team"]
    assert filled.get("label/job/values", **times) == ["bar", "foo"]
    assert len(filled.get("series", **times)) == 4
    form = filled.call("/loki/api/v1/label/job/values", "POST", data=times)
    assert form.json()["data"] == ["bar", "foo"]


def test_before_and_behind_all_entries(filled: Tenant) -> None:
    for times in ({"start": 0, "end": NOW - 1}, {"start": NOW + 4 * S, "end": NOW + HOUR}):
        for path in ("labels", "label/job/values", "series"):
            assert filled.get(path, **times) == []


def test_several_tenants_at_once(tenant: Tenant) -> None:
    other = Tenant(tenant.http, f"{tenant.name}-other")
    tenant.push({"job": "app", "env": "a"}, [(NOW, "line 1", {"trace": "t"})])
    other.push({"job": "app", "env": "b"}, [(NOW, "line 22"), (NOW + S, "line 3")])
    both = Tenant(tenant.http, f"{tenant.name}|{other.name}")
    names = [tenant.name, other.name]
    assert plain(both, "index/stats", query='{job="app"}') == {"streams": 2, "chunks": 2, "bytes": 19, "entries": 3}
    assert volumes(both, query='{job="app"}') == [({"job": "app"}, "19")]
    assert volumes(both, query='{job="app"}', targetLabels="env") == [({"env": "b"}, "13"), ({"env": "a"}, "6")]
    assert both.get("patterns", query='{job="app"}', **RANGE, step="1h")[0]["samples"] == [
        [NOW // (3600 * S) * 3600, 3]
    ]
    assert set(fields(both, '{job="app"}')) == {"trace"}
    assert both.get("labels", **RANGE) == ["__tenant_id__", "env", "job"]
    assert both.get("label/__tenant_id__/values", **RANGE) == names
    assert both.get("label/env/values", query=f'{{__tenant_id__="{other.name}"}}', **RANGE) == ["b"]
    assert [one["__tenant_id__"] for one in both.get("series", **RANGE)] == names
    assert {one["label"] for one in plain(both, "detected_labels")["detectedLabels"]} == {"__tenant_id__", "env", "job"}
    assert plain(both, "index/stats", query=f'{{__tenant_id__="{other.name}"}}')["entries"] == 2
