"""A dashboard of 50 panels: asked one after the other, all at once, and by several tenants of which one floods."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np

from atalaia.environment.errors import AtalaiaError
from atalaia.store.batch import CONTENT_TYPE, encode
from bench.logs import Log, Span, batches, span
from bench.service import Store, serving
from bench.table import Row

PANELS = 50
LIGHT, HEAVY = "light", "heavy"
_TENANTS = (HEAVY, "one", "two", LIGHT)
_LINES = 400_000  # of each tenant, at the most
_FLOOD = 6  # dashboards that one tenant opens at once
_LEVELS = ("LOG", "ERROR", "FATAL", "STATEMENT", "DETAIL")
_DURATION = '|= "duration" | regexp `duration: (?P<ms>[0-9.]+) ms` | unwrap ms'
_USER = '|= "authentication" | regexp `for user "(?P<user>\\w+)"`'
_NS = 10**9


@dataclass(frozen=True, slots=True)
class Panel:
    """A request: a path below /loki/api/v1 and its parameters."""

    path: str
    parameters: dict[str, str | int]


@dataclass(frozen=True, slots=True)
class Asked:
    """Seconds of each answer, of all together, and how many failed."""

    seconds: np.ndarray
    whole: float
    errors: int

    def row(self, what: str) -> Row:
        """A line of the table."""
        half, most = (float(np.percentile(self.seconds, q)) * 1e3 for q in (50, 95))
        note = f"p50 {half:,.0f}, max {self.seconds.max() * 1e3:,.0f}, all {self.whole * 1e3:,.0f} ms"
        return Row(what, most, "ms", note=f"{note}; {self.errors} errors of {len(self.seconds)}")


def panels(times: Span) -> list[Panel]:
    """50 different ones over a log's whole time: ten kinds, five of each."""
    begin, end = times.aligned(60)
    step = max(60, (end - begin) // _NS // 250 // 60 * 60)
    found = []
    for number, level in enumerate(_LEVELS):
        selector = f'{{job="reference", level="{level}"}}'
        minutes = number + 1
        found += [
            Panel("query_range", {"query": selector, "start": begin, "end": end, "limit": 1000}),
            Panel(
                "query_range",
                {"query": f'{{job="reference"}} |= "t_{number}7_"', "start": begin, "end": end, "limit": 1000},
            ),
            Panel("labels", {"start": begin, "end": end}),
        ]
        for query in (
            f'sum by (level) (count_over_time({{job="reference"}} [{minutes}m]))',
            f'sum(rate({selector} |= "user" [{minutes}m]))',
            f'topk(5, sum by (user) (count_over_time({{job="reference"}} {_USER} [{minutes}m])))',
            f'quantile_over_time(0.9{number}, {{job="reference"}} {_DURATION} [{minutes}m]) by (level)',
            f"sum by (level) (bytes_rate({selector} [{minutes}m]))",
            f'sum(rate({selector}[{minutes}m])) / sum(rate({{job="reference"}}[{minutes}m])) * 100',
            f'avg_over_time({{job="reference"}} {_DURATION} [{minutes}m]) by (level)',
        ):
            found.append(Panel("query_range", {"query": query, "start": begin, "end": end, "step": step}))
    return found


async def ask(http: httpx.AsyncClient, some: Sequence[Panel], tenant: str, at_once: bool) -> Asked:
    """All panels for a tenant, at once or one after the other."""
    errors = 0

    async def one(panel: Panel) -> float:
        nonlocal errors
        began = time.perf_counter()
        try:
            answer = await http.get(f"/loki/api/v1/{panel.path}", params=panel.parameters, headers=_headers(tenant))
            errors += answer.status_code != 200
        except httpx.HTTPError:
            errors += 1
        return time.perf_counter() - began

    began = time.perf_counter()
    found = await asyncio.gather(*map(one, some)) if at_once else [await one(panel) for panel in some]
    return Asked(np.array(found), time.perf_counter() - began, errors)


def _headers(tenant: str) -> dict[str, str]:
    return {"X-Scope-OrgID": tenant}


async def measured(base: str, some: Sequence[Panel]) -> dict[str, Asked]:
    """The panels in sequence, at once, of four tenants at once, and of one tenant alone and while another floods."""
    limits = httpx.Limits(max_connections=1000)
    async with httpx.AsyncClient(base_url=base, limits=limits, timeout=600, trust_env=False) as http:
        for tenant in _TENANTS:
            await ask(http, some, tenant, at_once=True)  # warms up
        found = {
            "in sequence": await ask(http, some, HEAVY, at_once=False),
            "at once": await ask(http, some, HEAVY, at_once=True),
        }
        four = await asyncio.gather(*(ask(http, some, tenant, at_once=True) for tenant in _TENANTS))
        found["four tenants at once"] = Asked(
            np.concatenate([asked.seconds for asked in four]),
            max(asked.whole for asked in four),
            sum(asked.errors for asked in four),
        )
        found["a light tenant, alone"] = await ask(http, some, LIGHT, at_once=False)
        flood = [asyncio.create_task(ask(http, some, HEAVY, at_once=True)) for _ in range(_FLOOD)]
        while not (await http.get("/atalaia/v1/queries")).json()["queues"]["queries"]["waiting"]:
            await asyncio.sleep(0.01)
        light = []
        for panel in itertools.cycle(some):
            if all(task.done() for task in flood):
                break
            light.append(await ask(http, [panel], LIGHT, at_once=True))
        found["a light tenant while another floods"] = Asked(
            np.concatenate([asked.seconds for asked in light]),
            sum(asked.whole for asked in light),
            sum(asked.errors for asked in light),
        )
        heavy = [task.result() for task in flood]
        found["the one that floods"] = Asked(
            np.concatenate([asked.seconds for asked in heavy]),
            max(asked.whole for asked in heavy),
            sum(asked.errors for asked in heavy),
        )
        return found


def measure(directory: Path, folder: Path, log: Log) -> list[Row]:
    """Lines of the table: the 95th percentile of each way to ask."""
    with serving(directory) as store:
        _fill(store, log, folder)
        store.settle()
        store.process.reset_peak()
        cpu = store.process.cpu
        found = asyncio.run(measured(store.base, panels(_part(log, folder))))
        used = f"{store.process.cpu - cpu:.1f} CPU s for all of them"
        return [
            *(asked.row(f"50 panels, p95: {what}") for what, asked in found.items()),
            Row("  peak memory of the store", store.process.peak, "MB", note=used),
        ]


def _part(log: Log, folder: Path) -> Span:
    """The times of the lines that are pushed."""
    first, last, rows = 0, 0, 0
    for batch in batches(log, folder):
        some = batch.column("ts").slice(0, _LINES - rows)
        first, last, rows = first or some[0].as_py(), some[-1].as_py(), rows + len(some)
        if rows >= _LINES:
            break
    return Span(first, last) if rows else span(log, folder)


def _fill(store: Store, log: Log, folder: Path) -> None:
    rows = 0
    for batch in batches(log, folder):
        some = batch.slice(0, _LINES - rows)
        rows += len(some)
        for tenant in _TENANTS:
            headers = {**_headers(tenant), "Content-Type": CONTENT_TYPE}
            answer = store.http.post(f"{store.base}/loki/api/v1/push", content=encode(some), headers=headers)
            if answer.status_code != 204:
                raise AtalaiaError(f"a push was answered with {answer.status_code}: {answer.text[:200]}")
        if rows >= _LINES:
            return
