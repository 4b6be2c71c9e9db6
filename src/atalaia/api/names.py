"""Which streams there are: names of labels, their values, label sets."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from atalaia.api.asking import asked
from atalaia.api.http import parameters_of, single, success
from atalaia.api.served import BOTH, Served, Spec
from atalaia.api.tenants import tenants_to_read
from atalaia.api.times import bounds
from atalaia.environment.errors import InputError
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery
from atalaia.query.ticket import Ticket


class NamesApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/loki/api/v1/labels", self.labels, BOTH),
            ("/loki/api/v1/label", self.labels, BOTH),
            ("/loki/api/v1/label/{name}/values", self.label_values, BOTH),
            ("/loki/api/v1/series", self.series, BOTH),
        ]

    async def labels(self, request: Request) -> Response:
        """/loki/api/v1/labels: the names of all labels."""
        return await self._answer(request, lambda found: sorted({name for labels in found for name in labels}))

    async def label_values(self, request: Request) -> Response:
        """/loki/api/v1/label/{name}/values."""
        name = request.path_params["name"]
        return await self._answer(request, lambda found: sorted({labels[name] for labels in found if name in labels}))

    async def series(self, request: Request) -> Response:
        """/loki/api/v1/series: the streams that match any of match[]."""
        return await self._answer(request, lambda found: found)

    async def _answer(self, request: Request, shown: Callable[[list[dict[str, str]]], object]) -> Response:
        pairs = await parameters_of(request)
        start, end = bounds(single(pairs))
        texts = [value for key, value in pairs if key in ("match", "match[]", "query") and value]
        selectors = []
        for text in texts:
            tree = parse(text)
            if not isinstance(tree, LogQuery) or tree.stages:
                raise InputError(f'{text!r} is not a stream selector such as {{job="postgres"}}')
            selectors.append(tree.selector)
        tenants = tenants_to_read(request)

        def work(ticket: Ticket) -> Response:
            return success(shown(self._served.executor.series(tenants, selectors, start, end, ticket)))

        return await asked(request, self._served, work, quick=True)
