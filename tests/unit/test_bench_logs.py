"""The generators: the same bytes everywhere, lines that parse, and something in them for each query to find."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Iterator
from datetime import datetime

import numpy as np
import pyarrow as pa
import pytest
from bench import postgresql, services
from bench.columns import BLOCK, Draws, decimal, moments, padded
from bench.queries import QUERIES

POSTGRESQL = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) UTC \[\d+\] \w+@prod (?P<level>LOG|ERROR|FATAL):  .+\n"
)
LOGFMT = re.compile(
    r'ts=(?P<ts>\S+) level=(?:info|warn|error) caller=worker\.go:\d+ msg="[a-z ]+" queue=\w+ job_id=\d+'
    r" attempts=\d duration=\d+\.\d{3}ms\n"
)
LINES: dict[str, Callable[[int], Iterator[pa.Array]]] = {
    "reference": postgresql.log_lines,
    "web": lambda count: services.json_lines(count, 1),
    "worker": lambda count: services.logfmt_lines(count, 1),
}
HASHES = {
    "reference": "dcb16010d77a55b0",
    "web": "894a069d470b6081",
    "worker": "1bc7a7b583eaa6e8",
}


def lines(job: str, count: int) -> list[str]:
    return list(itertools.chain.from_iterable(block.to_pylist() for block in LINES[job](count)))


@pytest.mark.parametrize("job", LINES)
def test_a_log_has_the_same_bytes_every_time(job: str) -> None:
    text = "".join(lines(job, BLOCK + 1000))
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == HASHES[job]


@pytest.mark.parametrize("count", [1, BLOCK, BLOCK + 1])
@pytest.mark.parametrize("job", LINES)
def test_a_log_has_as_many_lines_as_asked_for(job: str, count: int) -> None:
    assert "".join(lines(job, count)).count("\n") == count


def test_a_shorter_reference_log_is_the_beginning_of_a_longer_one() -> None:
    assert lines("reference", 10) == lines("reference", BLOCK + 10)[:10]


def test_reference_lines_are_postgresql_lines_in_order_of_time() -> None:
    found = [POSTGRESQL.fullmatch(line) for line in lines("reference", BLOCK)]
    assert all(found)
    times = [match["time"] for match in found if match]
    assert times == sorted(times)
    share = sum(match["level"] == "ERROR" for match in found if match) / BLOCK
    assert 0.027 < share < 0.033


def test_the_needle_is_in_exactly_two_lines() -> None:
    found = "".join(lines("reference", 5 * BLOCK))
    assert found.count(f"id = {postgresql.NEEDLE} AND") == 2
    assert f"id = {postgresql.NEEDLE} AND" in next(q.pattern or "" for q in QUERIES if q.name == "needle")


def test_json_lines_are_json_of_one_week() -> None:
    rows = [json.loads(line) for line in lines("web", 2000)]
    assert {tuple(row) for row in rows} == {
        ("ts", "level", "method", "path", "status", "duration_ms", "bytes", "user", "trace_id")
    }
    check_week([row["ts"] for row in rows])
    assert {row["level"] for row in rows if row["status"] >= 500} == {"error"}
    assert len({row["trace_id"] for row in rows}) == len(rows)


def test_logfmt_lines_are_logfmt_of_one_week() -> None:
    found = [LOGFMT.fullmatch(line) for line in lines("worker", 2000)]
    assert all(found)
    check_week([match["ts"] for match in found if match])


def check_week(texts: list[str]) -> None:
    times = [datetime.fromisoformat(text) for text in texts]
    assert times == sorted(times)
    assert 6.9 < (times[-1] - times[0]).total_seconds() / 86_400 < 7


def test_servers_have_different_lines() -> None:
    assert next(services.json_lines(10, 1)) != next(services.json_lines(10, 2))


@pytest.mark.parametrize("query", [q for q in QUERIES if q.pattern], ids=lambda q: q.name)
def test_each_query_finds_some_lines_and_not_all(query) -> None:
    text = "".join(lines(query.job, BLOCK // 2))
    found = len(re.findall(query.pattern, text, re.M))
    assert found == 0 if query.name == "absent string" else found > 0
    if query.pattern not in ("^", '"duration_ms":'):
        assert found < BLOCK // 2


def test_durations_are_close_to_exponential() -> None:
    found = Draws(1).durations(30_000, 400_000)
    assert abs(found.mean() - 30_000) < 1500
    assert abs((found > 100_000).mean() - np.exp(-100 / 30)) < 0.005


def test_between_reaches_both_ends_evenly() -> None:
    counts = np.bincount(Draws(2).between(3, 7, 100_000), minlength=8)
    assert counts[:3].sum() == 0
    assert (abs(counts[3:] - 20_000) < 1000).all()


def test_texts() -> None:
    assert decimal(np.array([5, 12345, 1000]), 3).to_pylist() == ["0.005", "12.345", "1.000"]
    assert padded(np.array([7, 123]), 2).to_pylist() == ["07", "123"]
    assert moments(np.array([1_723_160_000_005])).to_pylist() == ["2024-08-08 23:33:20.005"]
    assert Draws(3).hexadecimal(2).to_pylist() == [f"{int(raw):016x}" for raw in Draws(3).raw(2)]
