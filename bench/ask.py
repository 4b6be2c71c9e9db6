"""Asks any server that speaks Loki's API, and makes the table's lines of its answers."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from bench.logs import Log, Span, span
from bench.queries import QUERIES, Query
from bench.service import Store
from bench.table import Row
from bench.tools import Scale, count

_TIMES = 5  # warm
_ENOUGH = 30.0  # seconds after which a query is not repeated


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds and the sum of the answer's numbers (or its entries' count); or why there is no answer."""

    seconds: float | None = None
    total: float | None = None
    refusal: str = ""


def ask(http: httpx.Client, base: str, query: Query, times: Span) -> Outcome:
    """One answer."""
    path = {"instant": "query", "range": "query_range", "newest": "query_range"}.get(query.kind, query.kind)
    began = time.perf_counter()
    try:
        answer = http.get(f"{base}/loki/api/v1/{path}", params=query.parameters(times))
    except httpx.HTTPError as error:
        return Outcome(refusal=f"no answer: {str(error) or type(error).__name__}")
    seconds = time.perf_counter() - began
    if answer.status_code != 200:
        first = answer.text.strip().partition("\n")[0]
        return Outcome(refusal=f"refused ({answer.status_code}): {first[:70]}")
    return Outcome(seconds, _total(answer.json()["data"]))


def best(http: httpx.Client, base: str, query: Query, times: Span) -> Outcome:
    """The fastest of `_TIMES` answers after a first one that warms up; fewer where that takes long."""
    began = time.monotonic()
    found = ask(http, base, query, times)
    for _ in range(_TIMES):
        if found.refusal or time.monotonic() - began > _ENOUGH:
            break
        found = min(found, ask(http, base, query, times), key=lambda o: (o.seconds is None, o.seconds))
    return found


def measure(store: Store, logs: Sequence[Log], folder: Path, scale: Scale, against: str) -> list[Row]:
    """All queries, beside rg on the raw files and, where there is one, beside another server at `against`."""
    by_job = {log.job: log for log in logs}
    times = {log.job: span(log, folder) for log in logs}
    store.settle()
    store.process.reset_peak()
    cpu = store.process.cpu
    rows = []
    with httpx.Client(timeout=120, trust_env=False) as other:
        for query in QUERIES:
            seconds, lines = count(query.pattern, by_job[query.job].files) if query.pattern else (None, None)
            here = best(store.http, store.base, query, times[query.job])
            there = best(other, against, query, times[query.job]) if against else None
            rows.append(row(query, here, there, scale, seconds, lines))
    used = f"{store.process.cpu - cpu:.1f} CPU s for all of them"
    return [*rows, Row("  peak memory of the store", store.process.peak, "MB", note=used)]


def row(query: Query, here: Outcome, there: Outcome | None, scale: Scale, raw: float | None, lines: int | None) -> Row:
    """One line of the table; `raw` and `lines` are rg's seconds and count, None where it has nothing to look for."""
    shown = here.total is not None and (query.counts or query.kind == "newest")
    notes = [f"{here.total:,.0f}" if shown else here.refusal]
    if query.counts and here.total is not None and lines is not None and here.total != lines:
        notes.append(f"differs! {lines:,} lines have it")
    if there and there.refusal:
        notes.append(f"there: {there.refusal}")
    elif there and there.total is not None and here.total is not None and not math.isclose(here.total, there.total):
        notes.append(f"there: {there.total:,.0f}")
    return Row(
        f"query: {query.name}",
        _ms(here.seconds),
        "ms",
        None if query.target is None else query.target * scale.queries,
        _ms(raw),
        _ms(there.seconds) if there else None,
        ", ".join(filter(None, notes)),
    )


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3


def _total(data: Any) -> float:
    if isinstance(data, list):
        return sum(count for pattern in data for _, count in pattern["samples"])
    match data["resultType"]:
        case "vector":
            return sum(float(series["value"][1]) for series in data["result"])
        case "matrix":
            return sum(float(value) for series in data["result"] for _, value in series["values"])
        case _:
            return sum(len(stream["values"]) for stream in data["result"])
