"""A week of two services on five servers each, one file a server: JSON lines of a web service, logfmt of workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.columns import BLOCK, Draws, blocks, decimal, join, moments, number

SERVERS = 5
_FIRST = 1_722_816_000_000  # ms since 1970, a Monday
_WEEK = 7 * 86_400_000
_STATUS = (200, 200, 200, 200, 200, 200, 201, 204, 301, 304, 400, 401, 404, 404, 500, 503)
_PATHS = ("/api/orders", "/api/orders/search", "/api/customers", "/api/invoices", "/login", "/health", "/")
_DONE = ("job done", "job retried", "batch written", "mail sent", "cache warmed")
_Line = Callable[[Draws, pa.Array, int], pa.Array]


def json_lines(lines: int, server: int) -> Iterator[pa.Array]:
    """One server's week of a web service, block by block."""
    return _week(lines, Draws(11, server), _json)


def logfmt_lines(lines: int, server: int) -> Iterator[pa.Array]:
    """One server's week of workers, block by block."""
    return _week(lines, Draws(13, server), _logfmt)


def _week(lines: int, draws: Draws, line: _Line) -> Iterator[pa.Array]:
    """Evenly spread, in order of time."""
    for block, count in blocks(lines):
        at = np.arange(count, dtype=np.int64) + block * BLOCK
        ms = _FIRST + at * _WEEK // lines + draws.between(0, max(0, _WEEK // lines - 1), count)
        yield line(draws, join(pc.replace_substring(moments(ms), " ", "T"), "Z"), count)


def _json(draws: Draws, moment: pa.Array, count: int) -> pa.Array:
    status = draws.words([str(code) for code in _STATUS], count)
    level = pc.if_else(pc.starts_with(status, "5"), "error", pc.if_else(pc.starts_with(status, "4"), "warn", "info"))
    return join(
        '{"ts":"', moment, '","level":"', level, '","method":"', draws.words(("GET", "GET", "GET", "POST"), count),
        '","path":"', draws.words(_PATHS, count), '","status":', status,
        ',"duration_ms":', decimal(draws.durations(40_000, count), 3),
        ',"bytes":', number(draws.durations(8_000, count)), ',"user":"u', number(draws.between(1, 5_000, count)),
        '","trace_id":"', draws.hexadecimal(count), '"}\n',
    )  # fmt: skip


def _logfmt(draws: Draws, moment: pa.Array, count: int) -> pa.Array:
    return join(
        "ts=", moment, " level=", draws.words(("info",) * 17 + ("warn", "warn", "error"), count),
        " caller=worker.go:", number(draws.between(20, 400, count)), ' msg="', draws.words(_DONE, count),
        '" queue=', draws.words(("mail", "invoices", "images", "search"), count),
        " job_id=", number(draws.between(1, 10_000_000, count)), " attempts=", number(draws.between(1, 5, count)),
        " duration=", decimal(draws.durations(200_000, count), 3), "ms\n",
    )  # fmt: skip
