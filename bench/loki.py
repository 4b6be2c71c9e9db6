"""Another server that speaks Loki's API: the same entries, times and labels, by Loki's JSON push."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import pyarrow as pa

from atalaia.collector.outputs.loki import parts
from atalaia.collector.outputs.lokijson import loki_json
from atalaia.environment.errors import AtalaiaError
from bench.ask import ask
from bench.logs import Log, batches, span
from bench.queries import total
from bench.table import Row
from bench.tools import lines

_PUSH = 1 << 20  # bytes of lines, as Promtail's batchsize
_PATIENCE = 120.0  # seconds that a server may ask to wait for (429, 5xx)


def feed(base: str, folder: Path, logs: tuple[Log, ...]) -> list[Row]:
    """Push each log of which `base` has nothing. Raises AtalaiaError when it refuses entries."""
    rows = []
    with httpx.Client(timeout=120, trust_env=False) as http:
        for log in logs:
            times, expected = span(log, folder), lines(log.files)
            found = ask(http, base, total(log), times).total
            if not found:  # a Loki refuses old entries behind newer ones, so nothing is sent twice
                seconds = sum(_push(http, base, batch) for batch in batches(log, folder))
                found = ask(http, base, total(log), times).total
                speed = log.size / 1e6 / seconds
                note = f"{expected / seconds / 1e3:,.0f} k lines/s, waiting for the server alone"
                rows.append(Row(f"ingest: {log.kind}, JSON push", None, "MB/s", against=speed, note=note))
            if found != expected:
                note = f"there: {found or 0:,.0f} of {expected:,} lines; a Loki drops equal ones"
                rows.append(Row(f"  lines of the {log.kind} log", None, "", note=note))
    return rows


def _push(http: httpx.Client, base: str, batch: pa.RecordBatch) -> float:
    """Seconds that the server took."""
    seconds = 0.0
    table = pa.Table.from_batches([batch])
    for start, end in parts(table, _PUSH):
        body = loki_json(table.slice(start, end - start))
        began = time.perf_counter()
        _post(http, base, body)
        seconds += time.perf_counter() - began
    return seconds


def _post(http: httpx.Client, base: str, body: bytes) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            answer = http.post(f"{base}/loki/api/v1/push", content=body, headers={"Content-Type": "application/json"})
        except httpx.HTTPError as error:
            raise AtalaiaError(f"{base} does not take the logs: {error}", "check --against") from error
        if answer.status_code < 300:
            return
        if (answer.status_code != 429 and answer.status_code < 500) or time.monotonic() > deadline:
            raise AtalaiaError(
                f"{base} refuses the logs ({answer.status_code}): {answer.text.strip()[:300]}",
                "docs/benchmarks.md lists the limits of a Loki that must be raised",
            )
        time.sleep(0.2)
