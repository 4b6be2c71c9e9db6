"""Entries and series out: range queries and instant ones."""

from __future__ import annotations

import re
import time

from starlette.requests import Request
from starlette.responses import Response

from atalaia.api import answers
from atalaia.api.asking import answered
from atalaia.api.http import needed, parameters_of, single
from atalaia.api.served import BOTH, Served, Spec
from atalaia.api.tenants import tenants_to_read
from atalaia.api.times import bounds, default_step, parse_step, parse_time
from atalaia.environment.errors import InputError
from atalaia.logql.errors import NotBuilt
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery
from atalaia.query.ticket import Ticket

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
        ]

    async def query_range(self, request: Request) -> Response:
        """/loki/api/v1/query_range: entries or series over a time."""
        parameters = single(await parameters_of(request))
        tree = parse(needed(parameters, "query"))
        start, end = bounds(parameters)
        tenants = tenants_to_read(request)
        if isinstance(tree, LogQuery):
            if parameters.get("interval", "0") not in ("", "0", "0s"):
                raise NotBuilt("the parameter `interval`")
            limit = _limit(parameters)
            backward = _backward(parameters)
            categorised = _categorised(request)

            def entries(ticket: Ticket) -> answers.Answer:
                found = self._served.executor.logs(tree, tenants, start, end, limit, backward, ticket)
                return answers.streams(found, categorised)

            return await answered(request, self._served, entries)
        step = parse_step(parameters["step"], "step") if parameters.get("step") else default_step(start, end)
        steps = (end - start) // step + 1
        if steps > MAX_POINTS:
            raise InputError(
                f"{steps} points a series are more than {MAX_POINTS}: ask for a larger step or a shorter time"
            )

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


def _limit(parameters: dict[str, str]) -> int:
    text = parameters.get("limit") or "100"
    if not re.fullmatch(r"[1-9][0-9]{0,6}", text) or int(text) > MAX_LIMIT:
        raise InputError(f"limit={text[:100]!r} is not a number from 1 to {MAX_LIMIT}")
    return int(text)


def _backward(parameters: dict[str, str]) -> bool:
    direction = (parameters.get("direction") or "backward").lower()
    if direction not in ("forward", "backward"):
        raise InputError(f"direction={direction[:100]!r} is neither forward nor backward")
    return direction == "backward"


def _categorised(request: Request) -> bool:
    return "categorize-labels" in request.headers.get("x-loki-response-encoding-flags", "")
