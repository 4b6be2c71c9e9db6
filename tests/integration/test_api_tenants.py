"""Several tenants read at once: an answer is that of each alone, with the label __tenant_id__."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import replace
from typing import Any

import pytest
from api_support import HOUR, NOW, S, Served, Tenant, served, tenant

from atalaia.client.tail import Followed, Tail
from atalaia.environment.connection import Connection

__all__ = ["served", "tenant"]

Pair = tuple[Tenant, Tenant, Tenant]


@pytest.fixture(params=[2, 600], ids=["few streams", "many streams"])
def pair(tenant: Tenant, request: pytest.FixtureRequest) -> Pair:
    """Two tenants and what reads both; some streams have the same labels, some a __tenant_id__ of their own."""
    one, two = replace(tenant, name=f"{tenant.name}-b"), replace(tenant, name=f"{tenant.name}-a")
    for owner in (one, two):
        streams = [
            ({"app": "x", "n": str(n)}, [[str(NOW + n), f"v={n} of {owner.name[-1]}"]]) for n in range(request.param)
        ]
        streams.append(({"app": "x", "__tenant_id__": "own"}, [[str(NOW - S), "strange"]]))
        body = {"streams": [{"stream": labels, "values": values} for labels, values in streams]}
        assert owner.call("/loki/api/v1/push", "POST", json=body).status_code == 204
    return one, two, replace(tenant, name=f"{one.name}|{two.name}|{one.name}")


def _as_read_together(owner: Tenant, labels: dict[str, str]) -> str:
    own = {"original___tenant_id__": labels["__tenant_id__"]} if "__tenant_id__" in labels else {}
    return json.dumps({**labels, **own, "__tenant_id__": owner.name}, sort_keys=True)


def _together(pair: Pair, ask: Any) -> set[str]:
    return {_as_read_together(owner, labels) for owner in pair[:2] for labels in ask(owner)}


def test_log_queries(pair: Pair) -> None:
    one, two, both = pair

    def streams(who: Tenant) -> list[dict[str, str]]:
        return [found["stream"] for found in who.streams('{app="x"} | logfmt', limit=5000)]

    assert {json.dumps(labels, sort_keys=True) for labels in streams(both)} == _together(pair, streams)
    newest = both.streams('{app="x"}', limit=2)
    assert {found["stream"]["__tenant_id__"] for found in newest} == {one.name, two.name}
    assert len(both.streams(f'{{__tenant_id__="{one.name}"}}', limit=5000)) == len(one.streams('{app="x"}', limit=5000))
    assert both.streams('{__tenant_id__="nobody"}') == []
    assert both.streams(f'{{app="x", __tenant_id__!~"{one.name}|{two.name}"}}') == []
    assert both.lines(f'{{n="1"}} | __tenant_id__="{two.name}"') == ["v=1 of a"]
    strange = both.streams('{original___tenant_id__="own"}')
    assert [found["values"][0][1] for found in strange] == ["strange"] * 2
    assert len(both.streams('{app="x"} | original___tenant_id__="own"')) == 2


def test_metric_queries(pair: Pair) -> None:
    one, two, both = pair
    every = one.vector('sum(count_over_time({app="x"}[1h]))', NOW + HOUR // 2)["{}"]
    by = both.vector('sum by (__tenant_id__) (count_over_time({app="x"}[1h]))', NOW + HOUR // 2)
    assert by == {json.dumps({"__tenant_id__": name}): every for name in (one.name, two.name)}
    assert both.vector('sum(count_over_time({app="x"}[1h]))', NOW + HOUR // 2) == {"{}": 2 * every}
    without = both.vector('sum without (n, app) (count_over_time({app="x"}[1h]))', NOW + HOUR // 2)
    assert sum(without.values()) == 2 * every
    assert len(without) == 4
    series = both.vector('count_over_time({app="x", n=~"0|1"}[1h])', NOW + HOUR // 2)
    assert series == {_as_read_together(who, {"app": "x", "n": n}): 1 for who in (one, two) for n in "01"}
    strange = both.vector('sum by (original___tenant_id__) (count_over_time({app="x"}[1h]))', NOW + HOUR // 2)
    assert strange == {"{}": 2 * every - 2, '{"original___tenant_id__": "own"}': 2}


def test_names_values_and_series(pair: Pair) -> None:
    one, two, both = pair
    times = {"start": NOW - HOUR, "end": NOW + HOUR}
    assert both.get("labels", **times) == sorted(["__tenant_id__", "app", "n", "original___tenant_id__"])
    assert both.get("label/__tenant_id__/values", **times) == sorted([one.name, two.name])
    assert both.get("label/original___tenant_id__/values", **times) == ["own"]
    asked = {**times, "match[]": '{app="x"}'}
    found = {json.dumps(labels, sort_keys=True) for labels in both.get("series", **asked)}
    assert found == _together(pair, lambda who: who.get("series", **asked))
    alone = both.get("series", **times, **{"match[]": f'{{__tenant_id__="{one.name}"}}'})
    assert {labels["__tenant_id__"] for labels in alone} == {one.name}


def test_one_tenant_has_no_such_label(tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW, "x")])
    for name in (tenant.name, f"{tenant.name}|{tenant.name}"):
        assert replace(tenant, name=name).streams('{app="a"}') == [
            {"stream": {"app": "a"}, "values": [[str(NOW), "x"]]}
        ]


def test_pushes_and_deletions_are_of_one_tenant(tenant: Tenant) -> None:
    both = replace(tenant, name="a|b")
    body = {"streams": [{"stream": {"app": "a"}, "values": [[str(NOW), "x"]]}]}
    for answer in (
        both.call("/loki/api/v1/push", "POST", json=body),
        both.call("/loki/api/v1/delete", "POST", params={"query": '{app="a"}', "start": "1"}),
        both.call("/loki/api/v1/delete"),
    ):
        assert answer.status_code == 400, answer.text
        assert "one tenant" in answer.text


@pytest.mark.parametrize("name", ["a||b", "|", "", "..", "a|.", "a b", "é", "x" * 151])
def test_what_is_no_tenants_name(tenant: Tenant, name: str) -> None:
    answer = (
        replace(tenant, name=name).call("/loki/api/v1/labels")
        if name.isascii()
        else tenant.call(
            "/loki/api/v1/labels",
            headers={"X-Scope-OrgID": name.encode()},  # type: ignore[dict-item]  # as bytes go out
        )
    )
    assert answer.status_code == 400
    assert "is not a tenant's name" in answer.text


def test_every_way_of_reading_takes_several(pair: Pair) -> None:
    one, two, both = pair
    times = {"start": NOW - HOUR, "end": NOW + HOUR}
    query = {"query": f'{{app="x", __tenant_id__="{one.name}"}}', **times}
    assert (
        both.call("/loki/api/v1/index/stats", params=query).json()
        == one.call("/loki/api/v1/index/stats", params={"query": '{app="x"}', **times}).json()
    )
    volume = both.get("index/volume", query='{app="x"}', targetLabels="__tenant_id__", **times)["result"]
    assert {found["metric"]["__tenant_id__"] for found in volume} == {one.name, two.name}
    for path in ("index/volume_range", "patterns", "detected_fields", "detected_labels", "detected_field/v/values"):
        answer = both.call(f"/loki/api/v1/{path}", params=query)
        assert answer.status_code == 200, (path, answer.text)
    for path in ("/api/prom/query", "/api/prom/label", "/api/prom/label/app/values", "/atalaia/v1/explain"):
        answer = both.call(path, params={**query, "limit": 10})
        assert answer.status_code == 200, (path, answer.text)


def test_a_tail_of_several(served: Served, tenant: Tenant) -> None:
    one, two = replace(tenant, name=f"{tenant.name}-b"), replace(tenant, name=f"{tenant.name}-a")
    now = time.time_ns()
    one.push({"app": "t"}, [(now, "before")])
    followed = Followed('{app="t"} | __tenant_id__=~".+"', now - S, 10)
    with Tail(Connection(served.url, f"{one.name}|{two.name}"), followed) as tail:
        entries = itertools.chain.from_iterable(tail)
        assert (first := next(entries)).line == "before"
        two.push({"app": "t"}, [(now + 1, "after")])
        assert (second := next(entries)).line == "after"
    assert [entry.labels["__tenant_id__"] for entry in (first, second)] == [one.name, two.name]
