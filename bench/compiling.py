"""What a query costs before it reads anything: parsing, planning, and DuckDB's plan, over a store of six entries."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa

from atalaia.environment.errors import InputError
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery
from atalaia.query.engine import Engine
from atalaia.query.execute import Executor
from atalaia.store.batch import SCHEMA, canonical
from atalaia.store.store import Store
from bench.dashboard import panels
from bench.logs import Span
from bench.queries import QUERIES
from bench.table import Row

_TIMES = 20
_STAGES = (
    '| json | status >= 400 and (method="GET" or method=~"P.*") | duration > 1s | level != ""',
    '| logfmt | duration > 1s | caller=~"a|b" | size > 1KiB | level="x"',
    "| regexp `(?P<level>\\w+) (?P<a>\\d+) (?P<b>\\d+)` | a > 5 | b < 7",
    " ".join(f'!= "text {n}"' for n in range(50)),
)
_LONG = (
    *(f'sum by (level) (rate({{job="reference"}} {stages} [5m]))' for stages in _STAGES),
    '{job="reference"} | json | line_format "{{.a}} {{if .b}}{{.b | ToUpper}}{{end}}" | label_format x="{{.y}}"',
)
_STREAMS = [{"job": job, "level": level} for job in ("reference", "web", "worker") for level in ("LOG", "ERROR")]


class _Stamped(list[str]):
    """Statements, and when the first one was made."""

    at = 0.0

    def append(self, statement: str) -> None:
        self.at = self.at or time.thread_time()
        super().append(statement)


def measure(directory: Path) -> list[Row]:
    """The slowest query of all, and the median: until SQL is made, and until the answer of a store of six entries."""
    texts = list(dict.fromkeys([query.logql.replace("$range", "1h") for query in QUERIES] + list(_LONG)))
    texts += [str(panel.parameters["query"]) for panel in panels(Span(1, 10**12)) if "query" in panel.parameters][:10]
    store, engine = Store(directory), Engine()
    try:
        _fill(store)
        executor = Executor(store, engine)
        found = {text: _cost(executor, text) for text in texts}
    finally:
        engine.close()
        store.close()
    return [
        _row("compile to SQL, CPU: the slowest query", {text: made for text, (made, _) in found.items()}, 5.0),
        _row("  and answered of six entries", {text: answered for text, (_, answered) in found.items()}, None),
    ]


def _row(what: str, seconds: dict[str, float], target: float | None) -> Row:
    slowest = max(seconds, key=lambda text: seconds[text])
    half = float(np.median(list(seconds.values()))) * 1e3
    note = f"median {half:.1f} ms of {len(seconds)} queries; slowest: {slowest[:60]}…"
    return Row(what, seconds[slowest] * 1e3, "ms", target, note=note)


def _fill(store: Store) -> None:
    for labels in _STREAMS:
        columns = [[3600 * 10**9 - 1], pa.array([canonical(labels)]).dictionary_encode(), ["{}"], [None]]
        table = pa.Table.from_arrays([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], schema=SCHEMA)
        store.append(table, "fake", (), None).result()


def _cost(executor: Executor, text: str) -> tuple[float, float]:
    """CPU seconds until the SQL is made (of this thread), and to the answer (of the process): medians of several times.

    Each time it is another text, since texts may be remembered.
    """
    made, answered = [], []
    for number in range(_TIMES):
        ticket = executor.ticket()
        statements = ticket.statements = _Stamped()
        began, all_began = time.thread_time(), time.process_time()
        tree = parse(f"{text} # {number}")
        with suppress(InputError):  # an entry that a metric query fails on
            if isinstance(tree, LogQuery):
                executor.logs(tree, ("fake",), 0, 3600 * 10**9, 100, True, ticket)
            else:
                executor.metric(tree, ("fake",), 3600 * 10**9, 60 * 10**9, 60, ticket)
        answered.append(time.process_time() - all_began)
        made.append(statements.at - began)
    return float(np.median(made)), float(np.median(answered))
