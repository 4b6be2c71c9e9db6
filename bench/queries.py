"""The queries: what is asked, how long it may take, what rg looks for beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.logs import Log, Span
from bench.tools import PHRASE


@dataclass(frozen=True, slots=True)
class Query:
    """One question to the log of `job`; `$range` in `logql` is the whole time of that log.

    `step` is in seconds, `target` in ms on the log that the targets were measured on. `pattern` is what rg looks for
    beside it; with `counts`, the answer's numbers add up to the lines that have it.
    """

    name: str
    job: str
    kind: Literal["instant", "range", "newest", "patterns", "index/volume", "index/volume_range"]
    logql: str
    pattern: str | None
    target: float | None = None
    counts: bool = True
    step: int = 60

    def parameters(self, times: Span) -> dict[str, str | int]:
        """The parameters of the request over a log of these times."""
        begin, end = times.aligned(self.step)
        query = self.logql.replace("$range", f"{(end - begin) // 10**9}s")
        if self.kind == "instant":
            return {"query": query, "time": end}
        if self.kind in ("patterns", "index/volume", "index/volume_range"):
            return {"query": query, "start": begin, "end": end, "step": self.step}
        if self.kind == "newest":
            return {"query": query, "start": begin, "end": end, "direction": "backward", "limit": 100}
        # A window ends at its step: the first one is a step behind the beginning.
        return {"query": query, "start": begin + self.step * 10**9, "end": end, "step": self.step}


def _counting(name: str, text: str, pattern: str, target: float | None) -> Query:
    logql = f'sum(count_over_time({{job="reference"}} {text} [$range]))'
    return Query(name, "reference", "instant", logql, pattern, target)


def _of(name: str, job: str, stages: str, pattern: str) -> Query:
    return Query(name, job, "instant", f'sum(count_over_time({{job="{job}"}} {stages} [$range]))', pattern)


QUERIES = (
    _counting("count a phrase", f'|= "{PHRASE}"', PHRASE, 25),
    Query(
        "count ERROR by minute", "reference", "range",
        'sum(count_over_time({job="reference"} |= "ERROR" [1m]))', "ERROR", 40,
    ),
    _counting("needle", '|= "id = 9245039 AND"', "id = 9245039 AND", 10),
    _counting("part of a token", '|= "245039 AND"', "245039 AND", 150),
    _counting("absent string", '|= "no such text anywhere"', "no such text anywhere", 10),
    _counting("regex count", r"|~ `duration: [0-9]{3,}\.`", r"duration: [0-9]{3,}\.", 140),
    Query(
        "average of a number by minute", "reference", "range",
        'avg_over_time({job="reference"} |= "duration" | regexp `duration: (?P<d>[0-9.]+) ms` | unwrap d [1m])',
        "duration: [0-9.]+ ms", 250, counts=False,
    ),
    Query(
        "top users by regex", "reference", "instant",
        'topk(10, sum by (user) (count_over_time({job="reference"} |= "password authentication failed for user"'
        ' | regexp `for user "(?P<user>\\w+)"` [$range])))',
        "password authentication failed for user", 120,
    ),
    Query("newest 100", "reference", "newest", '{job="reference"}', None, 8),
    _counting("two line filters", '|= "ERROR" |= "t_45_pkey"', "ERROR.*t_45_pkey", None),
    Query(
        "json", "web", "instant", 'sum(count_over_time({job="web"} | json | status >= 500 [$range]))', '"status":5',
    ),
    Query(
        "logfmt, label filter", "worker", "instant",
        'sum(count_over_time({job="worker"} | logfmt | duration >= 1s [$range]))', r"duration=[0-9]{4,}\.",
    ),
    _of("logfmt, text filter", "worker", '| logfmt | level="error"', "level=error"),
    _of("json, text filter", "web", '| json | level="error"', '"level":"error"'),
    _of("json expression", "web", '| json s="status" | s >= 500', '"status":5'),
    Query(
        "logfmt, renamed, by queue", "worker", "instant",
        'sum by (q) (count_over_time({job="worker"} | logfmt | label_format q="{{.queue}}" [$range]))', "^",
    ),
    Query(
        "quantile by server and hour", "web", "range",
        'quantile_over_time(0.99, {job="web"} | json | unwrap duration_ms [1h]) by (server)', '"duration_ms":',
        counts=False, step=3600,
    ),
    Query(
        "a week of sum by (server)", "web", "range", 'sum by (server) (count_over_time({job="web"}[1h]))', "^",
        step=3600,
    ),
    Query("patterns", "reference", "patterns", '{job="reference"}', "^", step=3600),
    Query("volume", "reference", "index/volume", '{job="reference"}', None, counts=False),
    Query("volume by hour", "reference", "index/volume_range", '{job="reference"}', None, counts=False, step=3600),
)  # fmt: skip


def total(log: Log) -> Query:
    """How many entries a log has."""
    return Query("all lines", log.job, "instant", f'sum(count_over_time({{job="{log.job}"}}[$range]))', "^")
