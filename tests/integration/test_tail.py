"""Live tail with a real websocket client: what was stored, then what is committed, each entry once."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from tests.integration.api_support import HOUR, NOW, S, Served, Tenant, assert_quiet, served, tenant
from tests.integration.logs_support import wait_for
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

__all__ = ["served", "tenant"]
CATEGORISED = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}


@contextmanager
def tailing(
    served: Served,
    name: str,
    query: str,
    path: str = "/loki/api/v1/tail",
    headers: Mapping[str, str] = {},
    queue: int | None = None,
    **more: Any,
) -> Iterator[ClientConnection]:
    address = f"ws://127.0.0.1:{served.port}{path}?" + urlencode({"query": query, "start": NOW - HOUR, **more})
    with connect(
        address,
        additional_headers={"X-Scope-OrgID": name, **headers},
        compression=None,
        proxy=None,
        max_size=None,
        max_queue=queue,
    ) as connection:
        yield connection


def values(connection: ClientConnection, count: int) -> list[list[Any]]:
    """The next entries, [labels, ns, line, …], of as many frames as they take."""
    found: list[list[Any]] = []
    while len(found) < count:
        frame = json.loads(connection.recv(timeout=20))
        assert "dropped_entries" not in frame
        found += [[s["stream"], *value] for s in frame["streams"] for value in s["values"]]
    return found


def nothing_more(connection: ClientConnection) -> None:
    with pytest.raises(TimeoutError):
        connection.recv(timeout=0.3)


def test_history_then_what_comes(served: Served, tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW + i, f"old {i}") for i in range(5)])
    with tailing(served, tenant.name, '{app="a"}', limit=3) as tail:
        assert values(tail, 3) == [[{"app": "a"}, str(NOW + i), f"old {i}"] for i in (2, 3, 4)]
        tenant.push({"app": "b"}, [(NOW, "of another stream")])
        tenant.push({"app": "a"}, [(NOW - HOUR * 2, "late"), (NOW + S, "new")])
        assert [v[2] for v in values(tail, 2)] == ["late", "new"]
        tenant.push({"app": "a", "and": "more"}, [(NOW, "a stream that is new")])
        assert values(tail, 1) == [[{"app": "a", "and": "more"}, str(NOW), "a stream that is new"]]
        nothing_more(tail)


@pytest.mark.parametrize("streams", [1, 600])
def test_several_tenants(served: Served, tenant: Tenant, streams: int) -> None:
    """As in Loki's other answers: a label tells them apart, and can be asked for."""
    other = Tenant(tenant.http, f"{tenant.name}-b")
    query = '{app=~"a.*"} | __tenant_id__ != "nobody" |= "e"'
    with tailing(served, f"{tenant.name}|{other.name}", query) as tail:
        for who in (tenant, other):
            pushed = [
                {"stream": {"app": f"a{i}"}, "values": [[str(NOW), "one"], [str(NOW), "t"]]} for i in range(streams)
            ]
            assert who.call("/loki/api/v1/push", "POST", json={"streams": pushed}).status_code == 204
            found = values(tail, streams)
            assert {v[0]["__tenant_id__"] for v in found} == {who.name}
            assert {v[0]["app"] for v in found} == {f"a{i}" for i in range(streams)}
    with tailing(served, f"{tenant.name}|{other.name}", f'{{__tenant_id__="{other.name}", app="a0"}}', limit=9) as tail:
        assert len(values(tail, 2)) == 2
        tenant.push({"app": "a0"}, [(NOW, "no")])
        other.push({"app": "a0"}, [(NOW, "yes")])
        assert [v[2] for v in values(tail, 1)] == ["yes"]


def test_start_and_another_tenant(served: Served, tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW - 1, "before"), (NOW, "at")])
    with tailing(served, tenant.name, '{app="a"}', start=NOW) as tail:
        assert [v[2] for v in values(tail, 1)] == ["at"]
        other = Tenant(tenant.http, f"{tenant.name}-other")
        other.push({"app": "a"}, [(NOW, "not mine")])
        nothing_more(tail)


@pytest.mark.parametrize(
    ("pipeline", "expected"),
    [
        ('|= "two"', [('{"n":2,"s":"two"}', {})]),
        ("| json | n > 2", [('{"n":3,"s":"three"}', {"n": "3", "s": "three"})]),
        ('| json | line_format "{{.s}}" | s =~ "t.*" | drop n', [("two", {"s": "two"}), ("three", {"s": "three"})]),
        ('| json | label_format q="{{.n}}x" | keep q | q != "2x"', [("1", {"q": "1x"}), ("3", {"q": "3x"})]),
    ],
)
@pytest.mark.parametrize("many", [1, 700], ids=["Python alone", "SQL first"])
def test_pipelines(
    served: Served, tenant: Tenant, pipeline: str, expected: list[tuple[str, dict[str, str]]], many: int
) -> None:
    """Stored and coming entries go through the same pipeline, whichever way it runs."""
    lines = ['{"n":1,"s":"one"}', '{"n":2,"s":"two"}', '{"n":3,"s":"three"}']
    entries = [(NOW + i, line) for i, line in enumerate(lines * many)]
    if '"1x"' in str(expected) or "1x" in str(expected):
        expected = [(lines[int(line) - 1], labels) for line, labels in expected]
    tenant.push({"app": "a"}, entries)
    with tailing(served, tenant.name, f'{{app="a"}} {pipeline}', limit=5000) as tail:
        wanted = Counter((line, json.dumps({"app": "a"} | labels, sort_keys=True)) for line, labels in expected * many)
        if "keep q" in pipeline:
            wanted = Counter((line, json.dumps(labels, sort_keys=True)) for line, labels in expected * many)
        for _ in ("history", "live"):
            found = values(tail, len(expected) * many)
            assert Counter((v[2], json.dumps(v[0], sort_keys=True)) for v in found) == wanted
            tenant.push({"app": "a"}, entries)


def test_labels_apart(served: Served, tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW, "k=v", {"m": "1"})])
    with tailing(served, tenant.name, '{app="a"} | logfmt', headers=CATEGORISED) as tail:
        for _ in range(2):
            frame = json.loads(tail.recv(timeout=20))
            assert frame["encodingFlags"] == ["categorize-labels"]
            assert frame["streams"] == [
                {
                    "stream": {"app": "a"},
                    "values": [[str(NOW), "k=v", {"structuredMetadata": {"m": "1"}, "parsed": {"k": "v"}}]],
                }
            ]
            tenant.push({"app": "a"}, [(NOW, "k=v", {"m": "1"})])


def test_the_old_path(served: Served, tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW + 5, 'say "x"'), (NOW + 6, "no")])
    with tailing(served, tenant.name, '{app="a"}', "/api/prom/tail", regexp='s.y "') as tail:
        entry = {"ts": "2023-11-14T22:13:20.000000005Z", "line": 'say "x"'}
        expected = {"streams": [{"labels": '{app="a"}', "entries": [entry]}], "dropped_entries": None}
        assert json.loads(tail.recv(timeout=20)) == expected


def test_delay_puts_late_entries_in_order(served: Served, tenant: Tenant) -> None:
    with tailing(served, tenant.name, '{app="a"}', delay_for=1) as tail:
        began = time.monotonic()
        tenant.push({"app": "a"}, [(NOW + 2, "second")])
        tenant.push({"app": "a"}, [(NOW + 1, "first")])
        tenant.push({"app": "a"}, [(NOW + 3, "third")])
        assert [v[2] for v in values(tail, 3)] == ["first", "second", "third"]
        assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"query": ""}, "the parameter 'query' is missing"),
        ({"query": "{"}, "parse error at line 1, col 2"),
        ({"query": 'rate({a="b"}[1m])'}, "only lines can be followed"),
        ({"query": '{a="b"} | line_format "{{"'}, "invalid template"),
        ({"query": '{a="b"}', "limit": "0"}, "limit='0' is not a whole number from 1 to"),
        ({"query": '{a="b"}', "delay_for": "6"}, "delay_for='6' is not a whole number from 0 to 5"),
        ({"query": '{a="b"}', "start": "x"}, "start='x' is not a time"),
    ],
)
def test_refused_before_the_handshake(served: Served, tenant: Tenant, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidStatus) as refused, tailing(served, tenant.name, **parameters):
        pass
    assert refused.value.response.status_code == 400
    assert message in refused.value.response.body.decode()
    # The same as an ordinary request, and for one without a fault: that it must be a websocket.
    answer = tenant.call("/loki/api/v1/tail", params=parameters)
    assert (answer.status_code, message in answer.text) == (400, True)


def test_an_ordinary_request_is_told(tenant: Tenant) -> None:
    for path in ("/loki/api/v1/tail", "/api/prom/tail"):
        answer = tenant.call(path, params={"query": '{a="b"}'})
        assert (answer.status_code, "websocket" in answer.text) == (400, True)


def test_a_bad_tenant(served: Served) -> None:
    with pytest.raises(InvalidStatus) as refused, tailing(served, "a/b", '{a="b"}'):
        pass
    assert refused.value.response.status_code == 400


def test_a_slow_client_is_told_what_it_missed(served: Served, tenant: Tenant) -> None:
    """Pushes do not wait for it, another tail loses nothing; the slow one gets a gap that is told, and goes on."""
    many, size = 40, 1000
    with (
        tailing(served, tenant.name, '{app="a"}', queue=1) as slow,
        tailing(served, tenant.name, '{app="a"}') as quick,
    ):
        seen: list[str] = []

        def read() -> None:
            while len(seen) < many * size:
                seen.extend(value[2] for value in values(quick, 1))

        reader = threading.Thread(target=read)
        reader.start()
        for i in range(many):
            tenant.push({"app": "a"}, [(NOW + i * size + j, f"{i * size + j:<1000}") for j in range(size)])
            wait_for(lambda i=i: len(seen) >= (i - 2) * size, what="the quick one keeps up")
        reader.join(60)
        assert [int(line) for line in seen] == list(range(many * size))
        told: list[int] = []
        lost: list[dict[str, Any]] = []
        while not lost:
            frame = json.loads(slow.recv(timeout=20))
            told += [int(value[1]) for s in frame["streams"] for value in s["values"]]
            lost += frame.get("dropped_entries", [])
        assert told == list(range(len(told)))
        # The first of what was left out is named, with the labels and the time that it has.
        assert lost[0] == {"timestamp": str(NOW + len(told)), "labels": {"app": "a"}}
        assert len(lost) == min(1000, many * size - len(told))
        tenant.push({"app": "a"}, [(NOW, "again")])
        assert values(slow, 1) == [[{"app": "a"}, str(NOW), "again"]]


def test_stopping_says_goodbye(tmp_path: Path) -> None:
    server = Served(tmp_path)
    try:
        with httpx.Client(base_url=server.url, trust_env=False) as http:
            one = Tenant(http, "one")
            one.push({"app": "a"}, [(NOW, "x")])
            with tailing(server, "one", '{app="a"}') as tail, tailing(server, "one", '{app="b"}') as other:
                values(tail, 1)
                stopping = threading.Thread(target=server.stop)
                stopping.start()
                for connection in (tail, other):
                    with pytest.raises(ConnectionClosed) as closed:
                        connection.recv(timeout=20)
                    assert closed.value.rcvd is not None
                    assert closed.value.rcvd.code == 1001
                stopping.join(20)
    finally:
        assert server.stop() == 0
    assert_quiet(server)


def _open(tenant: Tenant) -> int:
    """How many tails the server says there are."""
    text = tenant.call("/metrics").text
    return int(next(line for line in text.splitlines() if line.startswith("loki_querier_tail_active ")).split()[1])


def test_a_client_that_leaves_without_a_word(served: Served, tenant: Tenant) -> None:
    """Its work ends at once; others go on."""
    tenant.push({"app": "a"}, [(NOW, "x")])
    with tailing(served, tenant.name, '{app="a"}') as stays:
        values(stays, 1)
        for _ in range(3):
            with tailing(served, tenant.name, '{app="a"}') as tail:
                values(tail, 1)
                wait_for(lambda: _open(tenant) == 2, 5, "both are open")
                tail.socket.shutdown(socket.SHUT_RDWR)
            wait_for(lambda: _open(tenant) == 1, 2, "the tail is closed")
        tenant.push({"app": "a"}, [(NOW, "y")])
        assert [v[2] for v in values(stays, 1)] == ["y"]


def test_leaving_ends_the_search_in_the_history(served: Served, tenant: Tenant) -> None:
    tenant.push({"app": "a"}, [(NOW + i, "x") for i in range(20_000)])
    slow = '{app="a"}' + ' | line_format "{{ repeat 2000 .app | upper | lower | upper | lower }}"' * 20 + ' |= "none"'
    with tailing(served, tenant.name, slow) as tail:
        wait_for(lambda: _open(tenant) == 1, 5, "it is asked")
        wait_for(lambda: _searching(tenant), 5, "it is searched for")
        tail.socket.shutdown(socket.SHUT_RDWR)
        wait_for(lambda: not _searching(tenant), 2, "the search ends")
        wait_for(lambda: _open(tenant) == 0, 5, "the tail is closed")


def _searching(tenant: Tenant) -> bool:
    found = tenant.call("/atalaia/v1/queries").json()
    return any(one["path"] == "/loki/api/v1/tail" for one in found["queries"])
