"""Which streams there are: names of labels, their values, label sets, and which labels are worth offering."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from atalaia.api.asking import asked
from atalaia.api.http import json_response, parameters_of, single, success
from atalaia.api.selectors import selector_of
from atalaia.api.served import BOTH, Served, Spec
from atalaia.api.tenants import tenants_to_read
from atalaia.api.times import bounds
from atalaia.logql.tree import Selector
from atalaia.logql.values import number
from atalaia.query.ranges import Tenants
from atalaia.query.ticket import Ticket

_Labels = Mapping[str, Sequence[str]]
"""The values of each label."""
_ALWAYS = frozenset({"cluster", "namespace", "instance", "pod"})
"""Labels that Loki offers whatever their values are."""
_BOOLEAN = frozenset({"0", "1"})


@dataclass(frozen=True, slots=True)
class _Asked:
    """Streams of tenants that any selector selects (all without one), with entries in [start, end] ns."""

    tenants: Tenants
    selectors: tuple[Selector, ...]
    start: int
    end: int


class NamesApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._explorer = served.explorer

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/loki/api/v1/labels", self.labels, BOTH),
            ("/loki/api/v1/label", self.labels, BOTH),
            ("/loki/api/v1/label/{name}/values", self.label_values, BOTH),
            ("/loki/api/v1/series", self.series, BOTH),
            ("/loki/api/v1/detected_labels", self.detected, BOTH),
        ]

    async def labels(self, request: Request) -> Response:
        """/loki/api/v1/labels: the names of all labels."""
        return await self.labelled(request, lambda found: success(list(found)))

    async def label_values(self, request: Request) -> Response:
        """/loki/api/v1/label/{name}/values."""
        name = request.path_params["name"]
        return await self.labelled(request, lambda found: success(found.get(name, [])), name)

    async def series(self, request: Request) -> Response:
        """/loki/api/v1/series: the streams that match any of match[]."""
        about = await _asked(request)

        def work(ticket: Ticket) -> Response:
            return success(self._explorer.series(about.tenants, about.selectors, about.start, about.end, ticket))

        return await asked(request, self._served, work, quick=True)

    async def detected(self, request: Request) -> Response:
        """/loki/api/v1/detected_labels: the labels with how many values they have, without those that hold IDs."""
        return await self.labelled(request, _detected)

    async def labelled(
        self, request: Request, shown: Callable[[_Labels], Response], only: str | None = None
    ) -> Response:
        """The labels, or the one of that name, with their values, as `shown`."""
        about = await _asked(request)

        def work(ticket: Ticket) -> Response:
            about_labels = about.tenants, about.selectors, about.start, about.end
            return shown(self._explorer.labels(*about_labels, ticket, only))

        return await asked(request, self._served, work, quick=True)


def _detected(found: _Labels) -> Response:
    kept = ((name, values) for name, values in found.items() if name in _ALWAYS or not _are_ids(values))
    return json_response({"detectedLabels": [{"label": name, "cardinality": len(values)} for name, values in kept]})


async def _asked(request: Request) -> _Asked:
    pairs = await parameters_of(request)
    texts = [value for key, value in pairs if key in ("match", "match[]", "query") and value]
    return _Asked(tenants_to_read(request), tuple(map(selector_of, texts)), *bounds(single(pairs)))


def _are_ids(values: Sequence[str]) -> bool:
    """Whether values are numbers or UUIDs, all of them: nothing to choose a stream by. 0 and 1 are yes and no."""
    return not _BOOLEAN.issuperset(values) and all(map(_is_id, values))


def _is_id(value: str) -> bool:
    if number(value) is not None:
        return True
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True
