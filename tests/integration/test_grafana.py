"""What Grafana's Loki data source asks, in the order in which a person makes it ask, and what it needs to understand.

The calls are those of Grafana's backend and front end (its Loki data source, converter of answers, Explore, Drilldown
pages), with their headers and spellings of times: nanoseconds, steps in milliseconds.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from api_support import HOUR, NOW, S, Served, Tenant, assert_quiet, served, tenant
from websockets.sync.client import connect

__all__ = ["served", "tenant"]

CATEGORISED = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}
RANGE = {"start": NOW - HOUR, "end": NOW + HOUR}
LEVELS = {"info": 6, "error": 3}


@pytest.fixture
def filled(tenant: Tenant) -> Tenant:
    """A service's logs at two levels, half with structured metadata, over ten minutes."""
    for level, count in LEVELS.items():
        entries: list[list[Any]] = [
            [NOW + n * 60 * S, f'level={level} msg="request {n} done" duration={n}ms', {"traceID": f"t{n}"}]
            for n in range(count)
        ]
        tenant.push({"service_name": "shop", "level": level}, entries)
    return tenant


def exact(tenant: Tenant, path: str, **options: Any) -> dict[str, Any]:
    answer = tenant.call(path, **options)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    return dict(answer.json())


def test_saving_the_data_source_asks_whether_it_is_healthy(tenant: Tenant) -> None:
    """Save & test: vector(1)+vector(1) at four seconds must be 2, whether or not anything is stored."""
    parameters = {"query": "vector(1)+vector(1)", "time": "4000000000", "direction": "backward"}
    found = exact(tenant, "/loki/api/v1/query", params=parameters)
    assert found["status"] == "success"
    assert found["data"]["resultType"] == "vector"
    assert found["data"]["result"] == [{"metric": {}, "value": [4000000000, "2"]}]
    version = exact(tenant, "/loki/api/v1/status/buildinfo")["version"]
    assert int(version.split(".")[0]) >= 3, "Grafana offers what the version has"


def test_the_label_browser(filled: Tenant) -> None:
    assert filled.get("labels", **RANGE) == ["level", "service_name"]
    assert filled.get("label/level/values", **RANGE) == ["error", "info"]
    narrowed = filled.get("label/level/values", query='{service_name="shop", level!="info"}', **RANGE)
    assert narrowed == ["error"]
    series = filled.get("series", **{"match[]": '{service_name="shop"}', **RANGE})
    assert sorted(labels["level"] for labels in series) == ["error", "info"]


def test_the_hint_of_how_much_a_query_reads(filled: Tenant) -> None:
    found = exact(filled, "/loki/api/v1/index/stats", params={"query": '{service_name="shop"}', **RANGE})
    assert found["streams"] == 2
    assert found["entries"] == sum(LEVELS.values())
    assert found["bytes"] > 0
    assert found["chunks"] >= 1


def test_explore_shows_lines_with_their_labels_apart(filled: Tenant) -> None:
    """Grafana reads JSON as a stream: the kind and the flags have to stand before the result."""
    parameters = {
        "query": '{service_name="shop"} | logfmt | duration >= 1ms',
        "direction": "backward",
        "limit": 1000,
        "step": "2000ms",
        **{name: str(value) for name, value in RANGE.items()},
    }
    answer = filled.call("/loki/api/v1/query_range", params=parameters, headers=CATEGORISED)
    assert answer.status_code == 200
    data = json.loads(answer.text, object_pairs_hook=list)
    members = dict(data)["data"]
    assert [name for name, _ in members][:3] == ["resultType", "encodingFlags", "result"]
    found = answer.json()["data"]
    streams = {stream["stream"]["level"]: stream["values"] for stream in found["result"]}
    assert set(streams) == {"info", "error"}
    times = [int(value[0]) for value in streams["info"]]
    assert times == sorted(times, reverse=True)
    ts, line, kinds = streams["error"][-1]
    assert (ts, line) == (str(NOW + 60 * S), 'level=error msg="request 1 done" duration=1ms')
    assert kinds["structuredMetadata"] == {"traceID": "t1"}
    assert kinds["parsed"] == {"level_extracted": "error", "msg": "request 1 done", "duration": "1ms"}
    summary = found["stats"]["summary"]
    assert summary["totalEntriesReturned"] == 7
    assert summary["totalBytesProcessed"] > 0
    assert summary["execTime"] > 0


def test_the_histogram_above_the_lines(filled: Tenant) -> None:
    parameters = {
        "query": 'sum by (level, detected_level) (count_over_time({service_name="shop"} | drop __error__[1m]))',
        "step": "60000ms",
        "start": str(NOW),
        "end": str(NOW + 600 * S),
        "direction": "backward",
    }
    headers = {**CATEGORISED, "X-Query-Tags": "Source=logvolhist"}
    found = exact(filled, "/loki/api/v1/query_range", params=parameters, headers=headers)["data"]
    assert found["resultType"] == "matrix"
    counted = {
        series["metric"]["level"]: sum(float(value) for _, value in series["values"]) for series in found["result"]
    }
    assert counted == LEVELS
    assert all(isinstance(at, (int, float)) for series in found["result"] for at, _ in series["values"])


def test_the_lines_around_a_line(filled: Tenant) -> None:
    """Show context: the older ones backward up to the line, the newer ones forward from it."""
    middle = NOW + 3 * 60 * S
    common = {"query": '{service_name="shop", level="info"}', "limit": 10}
    before = filled.get("query_range", CATEGORISED, **common, start=middle - 2 * HOUR, end=middle, direction="backward")
    after = filled.get("query_range", CATEGORISED, **common, start=middle, end=middle + 2 * HOUR, direction="forward")
    assert [int(ts) for ts, *_ in before["result"][0]["values"]] == [NOW + n * 60 * S for n in (2, 1, 0)]
    assert [int(ts) for ts, *_ in after["result"][0]["values"]] == [NOW + n * 60 * S for n in (3, 4, 5)]


def test_drilldown(filled: Tenant) -> None:
    """Volumes of services and of labels, patterns, fields."""
    volume = filled.get(
        "index/volume_range", query='{service_name=~".+"}', step="60s", limit=5000, targetLabels="service_name", **RANGE
    )
    assert [series["metric"] for series in volume["result"]] == [{"service_name": "shop"}]
    instant = filled.get("index/volume", query='{service_name=~".+"}', limit=5000, targetLabels="service_name", **RANGE)
    assert instant["resultType"] == "vector"
    assert int(instant["result"][0]["value"][1]) == sum(
        len(value[1]) for stream in filled.streams('{service_name="shop"}') for value in stream["values"]
    )
    patterns = filled.get("patterns", query='{service_name="shop"}', step="60s", **RANGE)
    assert sum(count for pattern in patterns for _, count in pattern["samples"]) == sum(LEVELS.values())
    fields = exact(
        filled,
        "/loki/api/v1/detected_fields",
        params={"query": '{service_name="shop"} | json | logfmt | drop __error__, __error_details__', **RANGE},
    )["fields"]
    types = {field["label"]: field["type"] for field in fields}
    assert types["duration"] == "duration"
    assert types["traceID"] == "string"
    labels = exact(filled, "/loki/api/v1/detected_labels", params=RANGE)["detectedLabels"]
    assert {"label": "level", "cardinality": 2} in labels
    values = exact(
        filled, "/loki/api/v1/detected_field/traceID/values", params={"query": '{service_name="shop"}', **RANGE}
    )
    assert sorted(values["values"]) == [f"t{n}" for n in range(6)]


def test_live_tailing(served: Served, filled: Tenant) -> None:
    query = "%7Bservice_name%3D%22shop%22%2Clevel%3D%22error%22%7D"
    address = f"ws://127.0.0.1:{served.port}/loki/api/v1/tail?query={query}&start={NOW}"
    headers = {"X-Scope-OrgID": filled.name}
    with connect(address, additional_headers=headers, open_timeout=20, proxy=None) as socket:
        first = json.loads(socket.recv(timeout=20))
        lines = [value[1] for stream in first["streams"] for value in stream["values"]]
        assert len(lines) == LEVELS["error"]
        filled.push({"service_name": "shop", "level": "error"}, [[NOW + HOUR, "level=error new"]])
        second = json.loads(socket.recv(timeout=20))
        assert [value[1] for stream in second["streams"] for value in stream["values"]] == ["level=error new"]
        assert second["streams"][0]["stream"]["service_name"] == "shop"


def test_alerting_lists_rules_and_alerts(tenant: Tenant) -> None:
    groups = exact(tenant, "/prometheus/api/v1/rules")
    assert groups["status"] == "success"
    assert groups["data"]["groups"] == []
    assert exact(tenant, "/prometheus/api/v1/alerts")["data"]["alerts"] == []
    listed = tenant.call("/loki/api/v1/rules")
    assert listed.status_code in (200, 404)


def test_a_wrong_query_is_told_in_words(served: Served, tenant: Tenant) -> None:
    text = tenant.refused("query_range", query='{service_name="shop" |= "x"', **RANGE)
    assert text.startswith("parse error at line 1, col ")
    assert "instant query" in tenant.refused("query", query='{service_name="shop"}')
    assert_quiet(served)
