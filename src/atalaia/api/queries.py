"""Entries and series out: range queries and instant ones."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from atalaia.api import answers
from atalaia.api.asking import answered
from atalaia.api.http import needed, parameters_of, single, success
from atalaia.api.served import BOTH, Served, Spec
from atalaia.api.tenants import tenants_to_read
from atalaia.api.times import bounds, default_step, parse_step
from atalaia.environment.errors import InputError
from atalaia.logql.entry import Entry
from atalaia.logql.parse import parse
from atalaia.logql.pretty import pretty
from atalaia.logql.tree import LogQuery
from atalaia.query.spaced import spaced
from atalaia.query.ticket import Ticket
from atalaia.wire.times import parse_time

MAX_LIMIT = 100_000
MAX_POINTS = 11_000


class QueryApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/loki/api/v1/query", self.query, BOTH),
            ("/loki/api/v1/query_range", self.query_range, BOTH),
            ("/loki/api/v1/format_query", self.format_query, BOTH),
        ]

    async def query_range(self, request: Request) -> Response:
        """/loki/api/v1/query_range: entries or series over a time."""
        parameters = single(await parameters_of(request))
        tree = parse(needed(parameters, "query"))
        if isinstance(tree, LogQuery):
            found, categorised = finder(request, self._served, tree, parameters), _categorised(request)
            return await answered(request, self._served, lambda ticket: answers.streams(found(ticket), categorised))
        start, end = bounds(parameters)
        tenants = tenants_to_read(request)
        step, steps = points_of(parameters, start, end)

        def series(ticket: Ticket) -> answers.Answer:
            return answers.matrix(self._served.executor.metric(tree, tenants, start, step, steps, ticket), start, step)

        return await answered(request, self._served, series)

    async def query(self, request: Request) -> Response:
        """/loki/api/v1/query: a metric query at one moment."""
        parameters = single(await parameters_of(request))
        tree = parse(needed(parameters, "query"))
        if isinstance(tree, LogQuery):
            raise InputError(
                "log queries are not supported as an instant query type, please change your query to a range query type"
            )
        moment = parse_time(parameters["time"], "time") if parameters.get("time") else time.time_ns()
        tenants = tenants_to_read(request)

        def samples(ticket: Ticket) -> answers.Answer:
            return answers.vector(self._served.executor.metric(tree, tenants, moment, 10**9, 1, ticket), moment)

        return await answered(request, self._served, samples)

    async def format_query(self, request: Request) -> Response:
        """/loki/api/v1/format_query: the query over several lines, as people write it."""
        return success(pretty(parse(needed(single(await parameters_of(request)), "query"))))


def points_of(parameters: dict[str, str], start: int, end: int) -> tuple[int, int]:
    """The step (ns) of a metric query over a time, and how many moments that makes. Raises InputError for too many."""
    step = parse_step(parameters["step"], "step") if parameters.get("step") else default_step(start, end)
    steps = (end - start) // step + 1
    if steps > MAX_POINTS + 1:
        raise InputError(
            f"exceeded maximum resolution of {MAX_POINTS:,} points per time series. Try decreasing the query"
            f" resolution (?step=XX): {steps} are asked for"
        )
    return step, steps


def finder(
    request: Request, served: Served, tree: LogQuery, parameters: dict[str, str]
) -> Callable[[Ticket], list[Entry]]:
    """What finds the entries that a log query asks for. Raises InputError for wrong parameters."""
    start, end = bounds(parameters)
    limit, backward, interval = _limit(parameters), _backward(parameters), _interval(parameters)
    tenants = tenants_to_read(request)

    def found(ticket: Ticket) -> list[Entry]:
        if interval:
            return spaced(served.executor, tree, tenants, start, end, limit, backward, interval, ticket)
        return served.executor.logs(tree, tenants, start, end, limit, backward, ticket)

    return found


def _interval(parameters: dict[str, str]) -> int:
    """ns between entries; 0 for all of them."""
    text = parameters.get("interval", "")
    return parse_step(text, "interval") if text.strip("0.s") else 0


def _limit(parameters: dict[str, str]) -> int:
    text = parameters.get("limit") or "100"
    if re.fullmatch(r"-[0-9]+|0+", text):
        raise InputError("limit must be a positive value")
    if not re.fullmatch(r"[0-9]{1,20}", text) or int(text) > MAX_LIMIT:
        raise InputError(f"limit={text[:100]!r} is not a number from 1 to {MAX_LIMIT}")
    return int(text)


def _backward(parameters: dict[str, str]) -> bool:
    direction = (parameters.get("direction") or "backward").lower()
    if direction not in ("forward", "backward"):
        raise InputError(f"direction={direction[:100]!r} is neither forward nor backward")
    return direction == "backward"


def _categorised(request: Request) -> bool:
    return "categorize-labels" in request.headers.get("x-loki-response-encoding-flags", "")
