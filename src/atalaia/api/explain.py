"""What a query is and does: its tree as canonical LogQL, the SQL that was run, what was read."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response

from atalaia.api.asking import asked
from atalaia.api.http import needed, parameters_of, single, success
from atalaia.api.queries import finder, points_of
from atalaia.api.served import BOTH, Served, Spec
from atalaia.api.tenants import tenants_to_read
from atalaia.api.times import bounds
from atalaia.logql.parse import parse
from atalaia.logql.pretty import pretty
from atalaia.logql.tree import LogQuery, Query
from atalaia.query.ticket import QueryNeedsMemory, QueryTooExpensive, Ticket

_SHOWN = 20_000  # characters of a statement


class ExplainApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [("/atalaia/v1/explain", self.explain, BOTH)]

    async def explain(self, request: Request) -> Response:
        """/atalaia/v1/explain, with the parameters of query_range: the query is run, and its answer is not given.

        `failed` tells why a query has no answer that took too much; what it had read by then is listed.
        """
        parameters = single(await parameters_of(request))
        tree = parse(needed(parameters, "query"))
        run = self._finding(request, tree, parameters)

        def work(ticket: Ticket) -> Response:
            began, failed = time.monotonic(), None
            try:
                run(ticket)
            except QueryNeedsMemory:
                if ticket.place:
                    raise  # it runs again where there is more
                failed = "it needs too much memory"
            except QueryTooExpensive as error:
                failed = str(error)
            return success(
                {
                    "query": pretty(tree),
                    "seconds": round(time.monotonic() - began, 6),
                    "failed": failed,
                    "passed": ticket.passed,
                    "statements": [sql if len(sql) <= _SHOWN else f"{sql[:_SHOWN]}…" for sql in ticket.statements],
                    "readings": [asdict(reading) for reading in ticket.readings],
                }
            )

        return await asked(request, self._served, work)

    def _finding(self, request: Request, tree: Query, parameters: dict[str, str]) -> Callable[[Ticket], object]:
        if isinstance(tree, LogQuery):
            return finder(request, self._served, tree, parameters)
        start, end = bounds(parameters)
        step, steps = points_of(parameters, start, end)
        tenants = tenants_to_read(request)
        return lambda ticket: self._served.executor.metric(tree, tenants, start, step, steps, ticket)
