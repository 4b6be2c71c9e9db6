"""The parameters of query_range and query: interval, since, step, format_query."""

from __future__ import annotations

import random
import time

import pytest
from api_support import HOUR, NOW, S, Tenant, served, tenant

__all__ = ["served", "tenant"]


def apart(times: list[int], interval: int, limit: int) -> list[int]:
    """As Loki thins entries: each is `interval` or more behind the one before that was kept."""
    kept: list[int] = []
    for ts in times:
        if (not kept or abs(ts - kept[-1]) >= interval) and len(kept) < limit:
            kept.append(ts)
    return kept


@pytest.mark.parametrize("direction", ["forward", "BACKWARD"])
def test_entries_are_at_least_the_interval_apart_over_all_streams(
    tenant: Tenant, direction: str, rng: random.Random
) -> None:
    times = sorted(NOW + rng.randrange(20_000) * S // 20 for _ in range(3000))
    for name in "ab":
        tenant.push({"job": "x", "name": name}, [(ts, str(ts)) for ts in times[name == "b" :: 2]])
    ordered = times if direction == "forward" else times[::-1]
    for interval, limit in (("1s", 50), ("1s", 5000), ("0.5", 20), ("5m", 100), ("1h", 10), ("0s", 7), ("1ns", 4000)):
        found = tenant.streams('{job="x"}', direction=direction, interval=interval, limit=limit)
        seen = sorted((int(value[0]) for stream in found for value in stream["values"]), reverse=direction != "forward")
        length = {"1s": S, "0.5": S // 2, "5m": 300 * S, "1h": HOUR, "0s": 0, "1ns": 1}[interval]
        assert seen == apart(ordered, length, limit), (interval, limit)


def test_the_interval_is_between_entries_that_the_query_finds(tenant: Tenant) -> None:
    tenant.push({"a": "b"}, [(NOW + n * S, "odd" if n % 2 else "even") for n in range(20)])
    found = tenant.streams('{a="b"} | line_format "{{__line__}}!" |= "odd!"', interval="5s", direction="forward")
    assert [int(value[0]) - NOW for stream in found for value in stream["values"]] == [1 * S, 7 * S, 13 * S, 19 * S]
    assert "interval='-1s' must be above zero" in tenant.refused("query_range", query='{a="b"}', interval="-1s")
    assert "interval='x' is not a duration" in tenant.refused("query_range", query='{a="b"}', interval="x")


def test_since_counts_from_now_when_the_end_is_to_come(tenant: Tenant) -> None:
    now = time.time_ns()
    tenant.push({"a": "b"}, [(now - 30 * S, "seen"), (now - 120 * S, "old")])
    found = tenant.get("query_range", query='{a="b"}', since="1m", end=now + HOUR)["result"]
    assert [value[1] for stream in found for value in stream["values"]] == ["seen"]


def test_points_and_limits_at_their_bounds(tenant: Tenant) -> None:
    query = 'count_over_time({a="b"}[1s])'
    tenant.get("query_range", query=query, start=NOW, end=NOW + 11_000 * S, step=1)
    refused = tenant.refused("query_range", query=query, start=NOW, end=NOW + 11_001 * S, step="1")
    assert "exceeded maximum resolution of 11,000 points per time series" in refused
    assert tenant.refused("query_range", query='{a="b"}', limit=-5) == "limit must be a positive value\n"
    # What Grafana and old clients send besides.
    tenant.get("query_range", query='{a="b"}', shards="0_of_16", step="0.5", queryType="range", interval="")


def test_format_query(tenant: Tenant) -> None:
    short = 'sum by (a) (rate({a="b"}[5m]))'
    long = f'{short[:-6]} |= "{"x" * 40}" | json | line_format "{{{{.message}}}}" | c = "d" [5m]))'
    assert tenant.get("format_query", query="sum  by(a)(\n rate( {a=`b`}[5m]))") == short
    lines = tenant.get("format_query", query=long).splitlines()
    assert len(lines) > 4
    assert max(map(len, lines)) < 80
    posted = tenant.call("/loki/api/v1/format_query", "POST", data={"query": long}).json()
    assert posted == {"status": "success", "data": "\n".join(lines)}


def test_format_query_of_what_cannot_be_read(tenant: Tenant) -> None:
    assert tenant.refused("format_query", query="{").startswith(
        "parse error at line 1, col 2: syntax error: unexpected"
    )
    assert "'query' is missing" in tenant.refused("format_query")
