"""Queries on a real server: the list of them, how they end, what their answers tell of them, how large they may be."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from api_support import NOW, S, Served, Tenant, assert_quiet, served, tenant
from logs_support import wait_for

__all__ = ["served", "tenant"]

# An entry takes Python milliseconds; of such an expression RE2 makes no automaton, and a line takes it a tenth of one.
IN_PYTHON = '| line_format "{{range 40000}}{{end}}"'
ENTRIES = 100_000
IN_SQL = "|~ `(?:[ab ]+[^k]{3,15}){8}z`"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of this module's own, with one query at a time beside the spare place."""
    limits = ("queries_running=2", "answer_size=1MiB", "queries_waiting=12", "memory_table=1GiB")
    options = [text for limit in limits for text in ("--limit", limit)]
    found = Served(tmp_path_factory.mktemp("queries"), *options)
    try:
        fill(found)
        yield found
    finally:
        code = found.stop()
    assert code == 0
    assert_quiet(found)


def fill(server: Served, tenants: Sequence[str] = ("slow", "other")) -> None:
    chance = random.Random(1)
    lines = ["".join(chance.choices("abcdefghijk ", k=60)) for _ in range(ENTRIES)]
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        for tenant in tenants:
            Tenant(client, tenant).push({"app": "a"}, [(NOW - S + n, line) for n, line in enumerate(lines)])


def running(server: Served) -> Any:
    return httpx.get(f"{server.url}/atalaia/v1/queries", trust_env=False).json()


def nothing_runs(server: Served) -> bool:
    return not running(server)["queries"]


def path(stages: str, kind: str = "query") -> str:
    query = quote(f'sum(count_over_time({{app="a"}} {stages} [1h]))')
    return f"/loki/api/v1/{kind}?query={query}&time={NOW}"


def begin(server: Served, target: str, tenant: str = "slow") -> socket.socket:
    """Send a request and read no answer."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.sendall(f"GET {target} HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: {tenant}\r\n\r\n".encode())
    return connection


def states(server: Served) -> list[str]:
    return [query["state"] for query in running(server)["queries"]]


def counted(tenant: str, server: Served) -> Any:
    """An ordinary question's answer."""
    parameters = {"query": 'sum(count_over_time({app="a"} [1h]))', "time": NOW}
    return httpx.get(
        f"{server.url}/loki/api/v1/query",
        params=parameters, headers={"X-Scope-OrgID": tenant}, timeout=30, trust_env=False,
    )  # fmt: skip


@pytest.mark.parametrize("stages", [IN_PYTHON + ' |= "y"', IN_SQL], ids=["python", "sql"])
def test_a_query_ends_when_its_client_leaves(server: Served, stages: str) -> None:
    fill(server, ["fresh"])
    with begin(server, path(stages), "fresh"):
        wait_for(lambda: states(server) == ["running"], what="the query runs")
        (query,) = running(server)["queries"]
        assert query["tenant"] == "fresh"
        assert query["path"] == "/loki/api/v1/query"
        assert query["query"] == f'sum(count_over_time({{app="a"}} {stages} [1h]))'
        wait_for(lambda: [query["rows"] >= ENTRIES for query in running(server)["queries"]] == [True], what="it reads")
    left = time.monotonic()
    wait_for(lambda: nothing_runs(server), what="the query ended")
    assert time.monotonic() - left < 1


def test_a_query_that_waits_leaves_the_queue_with_its_client(server: Served) -> None:
    with begin(server, path(IN_PYTHON + ' |= "y"')):
        wait_for(lambda: states(server) == ["running"])
        with begin(server, path("")):
            wait_for(lambda: states(server) == ["running", "waiting"])
            assert running(server)["queues"]["queries"] == {"running": 1, "waiting": 1}
            others_go_on(server)
        wait_for(lambda: states(server) == ["running"], what="it left the queue")
    wait_for(lambda: nothing_runs(server))


def others_go_on(server: Served) -> None:
    """Another tenant's queries, what reads little, and pushes."""
    assert counted("other", server).json()["data"]["result"][0]["value"][1] == str(ENTRIES)
    with httpx.Client(base_url=server.url, timeout=20, trust_env=False) as client:
        slow = Tenant(client, "slow")
        assert slow.get("labels", start=NOW - 10 * S, end=NOW + S) == ["app"]
        slow.push({"app": "b"}, [(NOW, "pushed")])


def test_a_query_can_be_ended_by_its_number(server: Served) -> None:
    body = path(IN_PYTHON + ' |= "y"').partition("?")[2].encode()
    headers = {"X-Scope-OrgID": "slow", "Content-Type": "application/x-www-form-urlencoded"}
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(
            httpx.post,
            f"{server.url}/loki/api/v1/query",
            content=body, headers=headers, timeout=30, trust_env=False,
        )  # fmt: skip
        wait_for(lambda: states(server) == ["running"])
        (query,) = running(server)["queries"]
        assert IN_PYTHON in query["query"], "a form is shown too"
        ended = httpx.delete(f"{server.url}/atalaia/v1/queries/{query['id']}", trust_env=False)
        assert ended.status_code == 204
        found = answer.result(20)
    assert (found.status_code, found.text) == (499, "the query was cancelled\n")
    again = httpx.delete(f"{server.url}/atalaia/v1/queries/{query['id']}", trust_env=False)
    assert (again.status_code, again.text) == (404, f"no query '{query['id']}' runs or waits\n")
    assert httpx.delete(f"{server.url}/atalaia/v1/queries/x", trust_env=False).status_code == 404


def test_a_full_queue_refuses_that_tenant_alone(server: Served) -> None:
    with contextlib.ExitStack() as waiting:
        waiting.enter_context(begin(server, path(IN_PYTHON + ' |= "y"')))
        wait_for(lambda: states(server) == ["running"])
        for _ in range(12):
            waiting.enter_context(begin(server, path("")))
        wait_for(lambda: running(server)["queues"]["queries"]["waiting"] == 12)
        refused = counted("slow", server)
        assert refused.status_code == 429
        assert refused.text.startswith("12 queries of tenant 'slow' wait already")
        assert counted("other", server).status_code == 200
    wait_for(lambda: nothing_runs(server))


def test_an_answer_has_a_bound(server: Served) -> None:
    entries = {"query": '{app="a"}', "start": NOW - 10 * S, "end": NOW + S, "limit": 50_000}
    with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
        slow = Tenant(client, "slow")
        told = slow.refused("query_range", 422, **entries)
        assert told.startswith("the lines of the answer, or those it is looked for in, have more than 1 MiB")
        assert "answer_size" in told
        # Few entries in the answer, many characters made of each.
        made = {**entries, "query": '{app="a"} | line_format "{{range 2000}}{{__line__}}{{end}}"', "limit": 50}
        told = slow.refused("query_range", 422, **made)
        assert told.startswith("the answer has more than 1 MiB")
        assert len(slow.get("query_range", **{**entries, "limit": 3000})["result"][0]["values"]) == 3000


def test_the_statistics_are_those_of_what_was_read(tenant: Tenant, served: Served) -> None:
    lines = [f"line {n:04d}" + "x" * 90 for n in range(1000)]
    size = sum(map(len, lines))
    tenant.push({"app": "a"}, [(NOW + n, line) for n, line in enumerate(lines[:600])])
    tenant.push({"app": "b"}, [(NOW + n, line) for n, line in enumerate(lines[600:])])
    options: dict[str, Any] = {"start": NOW - S, "end": NOW + S, "limit": 10}

    def summary(query: str) -> tuple[Any, Any]:
        began = time.monotonic()
        stats = tenant.get("query_range", query=query, **options)["stats"]
        assert 0 < stats["summary"]["execTime"] < time.monotonic() - began
        assert stats["summary"]["queueTime"] >= 0
        return stats["summary"], stats

    found, stats = summary('{app=~"a|b"}')
    assert stats["ingester"]["store"]["chunk"]["headChunkLines"] >= 1000, "other tests' entries are in memory too"
    assert stats["querier"]["store"]["chunk"]["decompressedLines"] == 0
    assert found["totalEntriesReturned"] == found["totalPostFilterLines"] == 10
    assert httpx.post(f"{served.url}/flush", trust_env=False).status_code == 204
    found, stats = summary('sum by (app) (count_over_time({app=~"a|b"} |= "line" [1s]))')
    assert found["totalPostFilterLines"] == 1000
    assert found["totalEntriesReturned"] == 2
    assert stats["ingester"]["totalReached"] == 0
    chunk = stats["querier"]["store"]["chunk"]
    assert found["totalLinesProcessed"] == chunk["decompressedLines"] >= 1000
    assert found["totalBytesProcessed"] == chunk["decompressedBytes"] >= size
    assert chunk["compressedBytes"] > 0
    assert stats["querier"]["store"]["totalChunksDownloaded"] >= 1
    rate = found["totalLinesProcessed"] / found["execTime"]
    assert found["linesProcessedPerSecond"] == pytest.approx(rate, rel=0.01)
    nothing, stats = summary('{app="c"}')
    assert nothing["totalLinesProcessed"] == nothing["totalEntriesReturned"] == 0


def test_bytes_are_exact_where_a_whole_segment_is_read(tmp_path: Path) -> None:
    server = Served(tmp_path / "store")
    try:
        with httpx.Client(base_url=server.url, timeout=30, trust_env=False) as client:
            tenant = Tenant(client, "fake")
            lines = [f"zeile {n} ä" for n in range(500)]
            size = sum(len(line.encode()) for line in lines)
            tenant.push({"app": "a"}, [(NOW + n, line) for n, line in enumerate(lines)])
            for flushed in (False, True):
                if flushed:
                    assert client.post("/flush").status_code == 204
                stats = tenant.get("query", query='count_over_time({app="a"}[1h])', time=NOW + S)["stats"]
                summary = stats["summary"]
                assert (summary["totalLinesProcessed"], summary["totalBytesProcessed"]) == (500, size)
                chunk = (stats["querier"] if flushed else stats["ingester"])["store"]["chunk"]
                assert chunk["decompressedBytes" if flushed else "headChunkBytes"] == size
    finally:
        assert server.stop() == 0


def test_a_large_answer_is_whole(tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW + n, "x" * 1000) for n in range(20_000)])
    answer = tenant.call(
        "/loki/api/v1/query_range",
        params={"query": '{app="a"}', "start": NOW - S, "end": NOW + S, "limit": 20_000},
    )
    assert len(answer.content) > 20_000_000
    (found,) = json.loads(answer.content)["data"]["result"]
    assert found["stream"] == {"app": "a"}
    assert found["values"] == [[str(NOW + n), "x" * 1000] for n in reversed(range(20_000))]
