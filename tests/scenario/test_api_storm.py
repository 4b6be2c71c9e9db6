"""Random and nearly right requests to every address of the server, several at a time: none of them does it any harm.

`make soak` sends 100,000. Seed and counts are printed; ATALAIA_SEED takes the seed back.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote_from_bytes, urlencode

import cramjam
import httpx

from atalaia.api.scopes import SCOPES
from tests.conftest import soak
from tests.integration.api_support import NOW, S, Served, assert_quiet
from tests.integration.fuzz_support import PIECES, QUERIES, VALUES, changed

_CLIENTS = 4
_METHODS = ("GET", "GET", "GET", "POST", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS")
_NAMES = (
    "query", "query", "start", "end", "time", "step", "since", "limit", "direction", "interval", "match[]",
    "match", "line_limit", "targetLabels", "aggregateBy", "delay_for", "regexp", "request_id", "type", "rule_name[]",
    "log_level", "state", "",
)  # fmt: skip
_RULES = """\
name: g
interval: 1m
rules:
  - alert: A
    expr: 'count_over_time({app="a"}[1m]) > 1'
    for: 1m
    labels: {x: "{{ $value }}"}
    annotations: {y: "{{ .Labels.app }}"}
  - {record: "a:b", expr: 'sum(rate({app="a"}[1m]))'}
"""
_PUSH = {"streams": [{"stream": {"app": "a"}, "values": [[str(NOW), 'x=1 msg="y"', {"k": "v"}], [str(NOW + 1), "y"]]}]}
_OTLP = {
    "resourceLogs": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]},
            "scopeLogs": [{"scope": {"name": "s"}, "logRecords": [{
                "timeUnixNano": str(NOW), "severityText": "INFO", "body": {"stringValue": "hello"},
                "traceId": "0a" * 16, "attributes": [{"key": "a.b", "value": {"intValue": "5"}}],
            }]}],
        }
    ]
}  # fmt: skip
_KINDS = (
    "application/json", "application/x-protobuf", "application/x-www-form-urlencoded", "application/yaml", "text/plain",
    "application/vnd.apache.arrow.stream", "multipart/form-data; boundary=x", "", "x/y; charset=é",
)  # fmt: skip


class Storm:
    """One client: makes requests and looks at their answers."""

    def __init__(self, served: Served, rng: random.Random, seen: Counter[str]) -> None:
        self._http = httpx.Client(base_url=served.url, timeout=120, trust_env=False)
        self._rng = rng
        self._seen = seen

    def run(self, requests: int) -> None:
        with self._http:
            for _ in range(requests):
                self._send()

    def _send(self) -> None:
        rng = self._rng
        template = rng.choice([*SCOPES])
        if template == "/flush" and rng.random() < 0.9:
            template = "/loki/api/v1/query_range"
        path = template
        while "{}" in path:
            path = path.replace(
                "{}", quote_from_bytes(rng.choice(["app", "x", "g", "level", "1", *VALUES]).encode()), 1
            )
        method = rng.choice(_METHODS)
        if template.endswith(("/push", "/v1/logs", "/positions")) and rng.random() < 0.8:
            method = "POST"
        query = self._parameters()
        body, kind, encoding = (b"", "", "") if method in ("GET", "HEAD", "OPTIONS") else self._body(template)
        headers = {
            "X-Scope-OrgID": rng.choice([*["storm"] * 12, "a|b", "storm|other", "", "é", "|", ".."]),
            "X-Loki-Response-Encoding-Flags": rng.choice(["", "categorize-labels", "x"]),
            "Content-Type": kind,
            "Content-Encoding": encoding,
        }
        sent = {name: value.encode("latin-1") for name, value in headers.items() if value}
        try:
            answer = self._http.request(method, f"{path}?{query}", content=body, headers=sent)
        except httpx.RemoteProtocolError:  # httptools has refused the head of the request
            self._seen["refused"] += 1
            return
        about = (method, path[:200], query[:500], body[:500], sent, answer.status_code, answer.text[:500])
        assert answer.status_code < 500 or answer.status_code == 501, about
        assert "Traceback" not in answer.text, about
        if answer.status_code >= 400 and method != "HEAD":
            assert answer.text.strip(), about
            assert len(answer.text) < 5000, about
        self._seen[template] += 1
        self._seen[f"{answer.status_code // 100}xx"] += 1

    def _parameters(self) -> str:
        rng = self._rng
        pairs = [(rng.choice(_NAMES), self._value()) for _ in range(rng.choice([0, 0, 0, 1, 2, 3]))]
        if rng.random() < 0.6:
            query = rng.choice(QUERIES)
            pairs.append(("query", query if rng.random() < 0.5 else changed(query, rng)))
        if rng.random() < 0.5:
            pairs += [("start", str(NOW)), ("end", str(NOW + 100 * S))]
        text = urlencode(pairs, errors="surrogatepass")
        return text if rng.random() < 0.95 else "".join(c for c in changed(text, rng) if " " < c < "\x7f")

    def _value(self) -> str:
        return self._rng.choice(VALUES) if self._rng.random() < 0.8 else changed(self._rng.choice(QUERIES), self._rng)

    def _body(self, template: str) -> tuple[bytes, str, str]:
        rng = self._rng
        made: Callable[[], tuple[bytes, str]]
        if "rules" in template:
            made = lambda: (_RULES.encode(), "application/yaml")  # noqa: E731 - one of four
        elif "logs" in template:
            made = lambda: (json.dumps(_OTLP).encode(), "application/json")  # noqa: E731
        elif "push" in template:
            made = lambda: (json.dumps(_PUSH).encode(), "application/json")  # noqa: E731
        else:
            made = lambda: (self._parameters().encode(), "application/x-www-form-urlencoded")  # noqa: E731
        body, kind = made()
        chance = rng.random()
        if chance < 0.5:
            body = changed(body.decode(), rng).encode(errors="replace")
        elif chance < 0.6:
            body = bytes(byte ^ (rng.random() < 0.02) for byte in body)
        elif chance < 0.7:
            body = rng.choice(
                [b"", b"\xff", b"[" * 5000, b"{}", b"\x00" * 9, rng.choice(PIECES).encode(), rng.randbytes(50)]
            )
        if rng.random() < 0.15:
            kind = rng.choice(_KINDS)
        if kind == "application/x-protobuf" and rng.random() < 0.7:
            return bytes(cramjam.snappy.compress_raw(rng.randbytes(rng.randrange(60)))), kind, ""
        encoding = rng.choice(["", "", "", "", "gzip", "deflate", "snappy", "x"])
        if encoding == "gzip" and rng.random() < 0.8:
            body = gzip.compress(body)[: rng.choice([None, None, 9])]
        return body, kind, encoding


def resident(served: Served) -> int:
    """Bytes of the server's memory."""
    lines = Path(f"/proc/{served.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) << 10


def test_no_request_harms_the_server(tmp_path: Path, rng: random.Random) -> None:
    rounds, each = (100, 250) if soak() else (4, 200)
    served = Served(tmp_path / "store", "--limit", "query_time=5s", "--limit", "disk_floor=0")
    seen: Counter[str] = Counter()
    memory: list[int] = []
    began = time.monotonic()
    try:
        for number in range(rounds):
            with ThreadPoolExecutor(_CLIENTS) as pool:
                storms = [Storm(served, random.Random(rng.randrange(2**32)), seen) for _ in range(_CLIENTS)]
                for done in [pool.submit(storm.run, each) for storm in storms]:
                    done.result()
            memory.append(resident(served))
            if soak() and number % 10 == 9:
                print(f"{(number + 1) * each * _CLIENTS} requests, {memory[-1] >> 20} MiB", file=sys.stderr)
        answer = httpx.get(f"{served.url}/ready", trust_env=False, timeout=20)
        assert answer.status_code == 200, "it serves as before"
        assert_quiet(served)
    except AssertionError:
        print("".join(served.errors[-40:]))
        raise
    finally:
        code = served.stop()
    assert code == 0
    assert_quiet(served)
    requests = rounds * each * _CLIENTS
    kinds = {name: count for name, count in seen.items() if name.endswith("xx") or name == "refused"}
    print(f"{requests} requests in {time.monotonic() - began:.0f} s: {kinds}; MiB: {[size >> 20 for size in memory]}")
    assert seen["2xx"] > requests // 10, "some of them are right"
    if soak():
        assert set(SCOPES) <= set(seen), "every address was asked"
        third = len(memory) // 3
        assert max(memory[-third:]) < 1.1 * max(memory[third:-third]) + (32 << 20), "memory does not grow"
