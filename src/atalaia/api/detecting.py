"""What lines are made of: patterns, and fields that parsers would find."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from atalaia.api.asking import asked
from atalaia.api.exploring import count_of, stepped
from atalaia.api.http import json_response, needed, parameters_of, single, success
from atalaia.api.served import BOTH, Served, Spec
from atalaia.api.tenants import tenants_to_read
from atalaia.api.times import bounds
from atalaia.environment.errors import InputError
from atalaia.logql.entry import Entry
from atalaia.logql.parse import parse
from atalaia.logql.tree import LineFilter, LogQuery
from atalaia.query.fields import Field, fields, values
from atalaia.query.patterns import Found
from atalaia.query.ticket import Ticket

MOST_PATTERNS = 100_000
MOST_LINES = 10_000
MOST_FIELDS = 100_000
_DEFAULT = 1_000
_SECOND = 10**9
_Shown = Callable[[list[Entry], int, Ticket], dict[str, object]]


class DetectingApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/loki/api/v1/patterns", self.patterns, BOTH),
            ("/loki/api/v1/detected_fields", self.fields, BOTH),
            ("/loki/api/v1/detected_field/{name:path}/values", self.values, BOTH),
        ]

    async def patterns(self, request: Request) -> Response:
        """/loki/api/v1/patterns: the patterns of lines, and how many lines of each there are a step."""
        parameters = single(await parameters_of(request))
        query = _log_query(needed(parameters, "query"))
        if not all(isinstance(stage, LineFilter) for stage in query.stages):
            raise InputError("patterns are found for a selector and line filters alone", "leave the other stages out")
        window = stepped(parameters, _SECOND)  # samples are told in seconds
        limit = count_of(parameters, ("limit",), _DEFAULT, MOST_PATTERNS)
        tenants = tenants_to_read(request)

        def work(ticket: Ticket) -> Response:
            found = self._served.explorer.patterns(tenants, query, window, limit, ticket)
            return success([_pattern(one, window.step or 1) for one in found])

        return await asked(request, self._served, work)

    async def fields(self, request: Request) -> Response:
        """/loki/api/v1/detected_fields: the fields of the newest lines of a query."""

        def shown(entries: list[Entry], limit: int, ticket: Ticket) -> dict[str, object]:
            return {"fields": [_field(one) for one in fields(entries, limit, ticket.check)], "limit": limit}

        return await self._of_entries(request, shown)

    async def values(self, request: Request) -> Response:
        """/loki/api/v1/detected_field/{name}/values: one field's values in those lines."""
        name = request.path_params["name"]

        def shown(entries: list[Entry], limit: int, ticket: Ticket) -> dict[str, object]:
            return {"values": values(entries, name, limit, ticket.check), "limit": limit}

        return await self._of_entries(request, shown)

    async def _of_entries(self, request: Request, shown: _Shown) -> Response:
        parameters = single(await parameters_of(request))
        limit = count_of(parameters, ("limit", "field_limit"), _DEFAULT, MOST_FIELDS)
        query = _log_query(needed(parameters, "query"))
        start, end = bounds(parameters)
        lines = count_of(parameters, ("line_limit",), _DEFAULT, MOST_LINES)
        tenants = tenants_to_read(request)

        def work(ticket: Ticket) -> Response:
            entries = self._served.executor.logs(query, tenants, start, end, lines, True, ticket)
            return json_response(shown(entries, limit, ticket))

        return await asked(request, self._served, work)


def _pattern(found: Found, step: int) -> dict[str, object]:
    samples = [[cell * step // _SECOND, count] for cell, count in zip(found.cells, found.lines, strict=True)]
    return {"pattern": found.pattern, "samples": samples}


def _log_query(text: str) -> LogQuery:
    tree = parse(text)
    if not isinstance(tree, LogQuery):
        raise InputError("only log queries have lines: give a selector, not a metric query")
    return tree


def _field(found: Field) -> dict[str, object]:
    shown: dict[str, object] = {
        "label": found.label,
        "type": found.type,
        "cardinality": len(found.values),
        "parsers": list(found.parsers) or None,
    }
    return {**shown, "jsonPath": list(found.path)} if found.path else shown
