"""Thousands of requests that are nearly right: every one is answered, none with 5xx, and nothing is logged."""

from __future__ import annotations

import json
import random
from typing import Any
from urllib.parse import quote_from_bytes

import cramjam
import httpx
from api_support import NOW, S, Served, Tenant, assert_quiet, raw, served, tenant
from tests.integration.fuzz_support import QUERIES, VALUES, changed

__all__ = ["served", "tenant"]

NAMES = [
    "query",
    "start",
    "end",
    "time",
    "step",
    "limit",
    "direction",
    "since",
    "interval",
    "match[]",
    "match",
    "targetLabels",
    "aggregateBy",
    "line_limit",
    "zzz",
    "",
]
BARE = ["index/stats", "detected_fields", "detected_field/x/values", "detected_field/%00%2F/values", "detected_labels"]
PATHS = [
    "query_range", "query", "labels", "label", "label/app/values", "label/%00/values", "series",
    "index/volume", "index/volume_range", "patterns", *BARE,
]  # fmt: skip


def check(answer: httpx.Response) -> None:
    assert answer.status_code < 500, (answer.request.url, answer.request.content, answer.text)
    if answer.status_code == 200:
        bare = answer.request.url.raw_path.decode().startswith(tuple(f"/loki/api/v1/{path}" for path in BARE))
        assert bare or answer.json()["status"] == "success"
    else:
        assert answer.headers["content-type"] == "text/plain; charset=utf-8"
        assert answer.text.strip()
        assert "Traceback" not in answer.text
        assert len(answer.text) < 3000


def fill(tenant: Tenant) -> None:
    lines = [
        '{"x":5,"y":"z"}',
        '{"x":{"y":[1]}}',
        'd=2s s=1kB app="q"',
        "x=1 x",
        "no",
        "",
        '{"x":',
        '"',
        "\0",
        "x" * 500,
    ]
    for n, app in enumerate(("a", "b")):
        tenant.push({"app": app, "x": "c"}, [(NOW + i * S + n, line, {"x": line[:3]}) for i, line in enumerate(lines)])


def test_queries(served: Served, tenant: Tenant, rng: random.Random) -> None:
    fill(tenant)
    for _ in range(700):
        query = rng.choice(QUERIES)
        if rng.random() < 0.8:
            query = changed(query, rng)
        instant = rng.random() < 0.4
        times = (
            {"time": NOW + 9 * S} if instant else {"start": NOW, "end": NOW + 20 * S, "step": rng.choice(["1", "7s"])}
        )
        path = "query" if instant else "query_range"
        check(tenant.call(f"/loki/api/v1/{path}", params={"query": query, **times}))
    assert_quiet(served)


def test_parameters(served: Served, tenant: Tenant, rng: random.Random) -> None:
    fill(tenant)
    for _ in range(700):
        pairs = [(rng.choice(NAMES), rng.choice(VALUES)) for _ in range(rng.randrange(4))]
        if rng.random() < 0.7:
            pairs.append(("query", rng.choice(QUERIES)))
        path = f"/loki/api/v1/{rng.choice(PATHS)}"
        headers = {"X-Loki-Response-Encoding-Flags": rng.choice(["", "categorize-labels", "x"])}
        if rng.random() < 0.5:
            check(tenant.call(path, params=pairs, headers=headers))  # type: ignore[arg-type]
        else:
            kind = rng.choice(["application/x-www-form-urlencoded", "application/json", "multipart/form-data", ""])
            form = "&".join(f"{quote_from_bytes(k.encode())}={quote_from_bytes(v.encode())}" for k, v in pairs)
            body = changed(form, rng).encode() + rng.choice([b"", b"\xff", b"%ff", b"&=&"])
            check(tenant.call(path, "POST", content=body, headers={**headers, "Content-Type": kind}))
    assert_quiet(served)


def test_pushes(served: Served, tenant: Tenant, rng: random.Random) -> None:
    junk: list[Any] = [None, 0, -1, 1.5, True, "", "x", [], {}, [[]], "\0", str(NOW), str(10**20), {"a": "b"}, "é"]
    good = {"streams": [{"stream": {"app": "a"}, "values": [[str(NOW), "x", {"k": "v"}], [str(NOW + 1), "y"]]}]}

    def spoil(value: Any) -> Any:
        if rng.random() < 0.12:
            return rng.choice(junk)
        if isinstance(value, dict):
            return {(k if rng.random() < 0.95 else changed(k, rng)): spoil(v) for k, v in value.items()}
        return [spoil(item) for item in value] if isinstance(value, list) else value

    for _ in range(700):
        body = json.dumps(spoil(good)).encode()
        kind = rng.choice(
            ["application/json"] * 3 + ["application/x-protobuf", "application/vnd.apache.arrow.stream", "x"]
        )
        encoding = rng.choice([""] * 3 + ["gzip", "deflate", "snappy", "x"])
        if kind == "application/x-protobuf" and rng.random() < 0.7:
            body = bytes(cramjam.snappy.compress_raw(rng.randbytes(rng.randrange(40))))
        elif rng.random() < 0.2:
            body = bytes(b ^ (rng.random() < 0.02) for b in body)
        headers = {"Content-Type": kind, "Content-Encoding": encoding}
        answer = tenant.call("/loki/api/v1/push", "POST", content=body, headers=headers)
        if answer.status_code == 204:
            assert not answer.content
        else:
            # 422: there was no stream at all.
            assert answer.status_code in (400, 422), (answer.text, body)
            assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert tenant.call("/loki/api/v1/push", "POST", json=good).status_code == 204
    assert tenant.get("query_range", query='{app="a"}', start=0, end=NOW + S)["result"]
    assert_quiet(served)


def test_bytes_that_are_hardly_http(served: Served, tenant: Tenant, rng: random.Random) -> None:
    head = b"GET /loki/api/v1/query_range?query=%7Bapp%3D%22a%22%7D HTTP/1.1\r\nHost: x\r\nX-Scope-OrgID: t\r\n\r\n"
    for _ in range(150):
        at = rng.randrange(len(head))
        request = (
            head[:at]
            + rng.choice([b"", b"\0", b"\r\n", b"%", b"%ff", b"\xff", b" ", head[at:][:9] * 2])
            + head[at + 1 :]
        )
        assert not raw(served, request).startswith(b"5")
    tenant.push({"app": "a"}, [(NOW, "alive")])
    assert tenant.lines('{app="a"}') == ["alive"]
    assert_quiet(served)
