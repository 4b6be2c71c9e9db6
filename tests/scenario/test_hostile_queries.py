"""Queries that want all memory, all time, or an answer without end, beside ordinary ones: these alone fail."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import soak
from tests.integration.api_support import NOW, S, Served, Tenant, assert_quiet

LINES = 20_000
WIDE = "w" * 200
ANSWERS = 64 << 20
BOUND = 1600 << 20
"""Bytes of resident memory: 768 MiB for DuckDB, a few answers in Python and as JSON, the memory table, the programs."""
LIMITS = ("query_memory=768MiB", "query_time=4s", "answer_size=64MiB", "queries_running=4")

HOSTILE = (
    # Memory of SQL: as many groups as entries, with long keys; sorting of whole lines.
    ("query", {"query": 'sum by (a, b, c) (count_over_time({app="a"} | json [1h]))', "time": NOW}),
    ("query_range", {"query": '{app="big"}', "start": NOW - 10 * S, "end": NOW + S, "limit": 100_000}),
    # Time, in SQL and in Python.
    ("query", {"query": 'count_over_time({app="a"} |~ `(?:[ab ]+[^k]{3,15}){8}z` [1h])', "time": NOW}),
    ("query", {"query": 'sum(bytes_over_time({app="a"} | line_format "{{range 40000}}{{end}}" [1h]))', "time": NOW}),
    # Many points; an answer that grows out of few entries.
    (
        "query_range",
        {"query": 'sum by (n) (count_over_time({app="a"} | json [1h]))', "start": NOW - 900 * S, "end": NOW, "step": 1},
    ),
    (
        "query_range",
        {
            "query": '{app="a"} | line_format "{{range 9000}}{{__line__}}{{end}}"',
            "start": NOW - 10 * S, "end": NOW + S, "limit": 5000,
        },
    ),
)  # fmt: skip
ORDINARY: tuple[tuple[str, dict[str, Any]], ...] = (
    ("query", {"query": 'sum(count_over_time({app="a"} [1h]))', "time": NOW}),
    ("query_range", {"query": '{app="a"} |= "77"', "start": NOW - 10 * S, "end": NOW + S, "limit": 100}),
    ("labels", {"start": NOW - 10 * S, "end": NOW + S}),
    ("query", {"query": 'sum by (app) (rate({app=~"a|big"} |= "7" [1h]))', "time": NOW}),
)


def fill(server: Served, tenant: str) -> None:
    with httpx.Client(base_url=server.url, timeout=60, trust_env=False) as client:
        store = Tenant(client, tenant)
        lines = [f'{{"n":"{n}","a":"{WIDE} {n}","b":"{WIDE} {n}","c":"abk {n}"}}' for n in range(LINES)]
        for first in range(0, LINES, 20_000):
            some = lines[first : first + 20_000]
            store.push({"app": "a"}, [(NOW - S + first + n, line) for n, line in enumerate(some)])
        for _ in range(4 if tenant == "hostile" else 0):
            store.push({"app": "big"}, [(NOW - S + n, f"{n} " + "x " * 250_000) for n in range(40)])


def resident(server: Served) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def ask(server: Served, tenant: str, question: tuple[str, dict[str, Any]]) -> int:
    """The status of its answer."""
    path, parameters = question
    answer = httpx.get(
        f"{server.url}/loki/api/v1/{path}", params=parameters,
        headers={"X-Scope-OrgID": tenant}, timeout=120, trust_env=False,
    )  # fmt: skip
    assert answer.status_code < 500, answer.text[:300]
    return answer.status_code


def test_hostile_queries_fail_alone_and_memory_stays_bounded(tmp_path: Path) -> None:
    server = Served(tmp_path / "store", *(text for limit in LIMITS for text in ("--limit", limit)))
    done = threading.Event()
    highest = 0
    refused: Counter[int] = Counter()
    answered: Counter[int] = Counter()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.02):
            highest = max(highest, resident(server))

    def attack(number: int) -> None:
        for question in itertools.islice(itertools.cycle(HOSTILE), number % len(HOSTILE), None):
            if done.is_set():
                return
            refused[ask(server, "hostile", question)] += 1

    def work(number: int) -> None:
        for question in itertools.islice(itertools.cycle(ORDINARY), number, number + (50 if soak() else 1)):
            answered[ask(server, "ordinary", question)] += 1

    try:
        for tenant in ("hostile", "ordinary"):
            fill(server, tenant)
        with ThreadPoolExecutor(41) as pool:
            watching = pool.submit(watch)
            attacks = [pool.submit(attack, number) for number in range(20)]
            try:
                deadline = time.monotonic() + 60
                while not refused[422] and time.monotonic() < deadline:
                    time.sleep(0.05)
                for ordinary in [pool.submit(work, number) for number in range(20)]:
                    ordinary.result(300)
            finally:
                done.set()
                for query in httpx.get(f"{server.url}/atalaia/v1/queries", trust_env=False).json()["queries"]:
                    httpx.delete(f"{server.url}/atalaia/v1/queries/{query['id']}", trust_env=False)
            for attacker in attacks:
                attacker.result(120)
            watching.result(10)
    finally:
        code = server.stop()
    print(f"highest {highest >> 20} MiB, hostile {dict(refused)}, ordinary {dict(answered)}")
    assert code == 0
    assert_quiet(server)
    assert set(answered) == {200}
    assert refused[422] > 0, "hostile queries fail with a message"
    assert highest < BOUND
