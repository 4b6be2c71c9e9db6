"""Which streams there are: names of labels, their values, label sets."""

from __future__ import annotations

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
        return success(await self.names(request))

    async def label_values(self, request: Request) -> Response:
        """/loki/api/v1/label/{name}/values."""
        return success(await self.values(request))

    async def series(self, request: Request) -> Response:
        """/loki/api/v1/series: the streams that match any of match[]."""
        return success(await self._series(request))

    async def names(self, request: Request) -> list[str]:
        """The names of all labels."""
        found = await self._series(request)
        return sorted({name for labels in found for name in labels})

    async def values(self, request: Request) -> list[str]:
        """The values of the label that the path names."""
        name = request.path_params["name"]
        found = await self._series(request)
        return sorted({labels[name] for labels in found if name in labels})

    async def _series(self, request: Request) -> list[dict[str, str]]:
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
        return await asked(
            request,
            self._served,
            lambda ticket: self._served.executor.series(tenants, selectors, start, end, ticket),
        )
