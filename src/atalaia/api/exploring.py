"""How much there is: statistics and volumes of streams."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict

from starlette.requests import Request
from starlette.responses import Response

from atalaia.api.asking import asked
from atalaia.api.http import json_response, needed, parameters_of, single, success
from atalaia.api.selectors import selector_of
from atalaia.api.served import BOTH, Served, Spec
from atalaia.api.tenants import tenants_to_read
from atalaia.api.times import bounds, default_step, parse_step, show_moment
from atalaia.environment.errors import InputError
from atalaia.query.counting import Window
from atalaia.query.ticket import Ticket
from atalaia.query.volume import Asked, Volume

MOST_SERIES = 100_000
MOST_POINTS = 11_000
_SERIES = 100
_MILLISECOND = 1_000_000


class ExploringApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._explorer = served.explorer

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/loki/api/v1/index/stats", self.stats, BOTH),
            ("/loki/api/v1/index/volume", self.volume, BOTH),
            ("/loki/api/v1/index/volume_range", self.volume_range, BOTH),
        ]

    async def stats(self, request: Request) -> Response:
        """/loki/api/v1/index/stats: streams, their pieces, bytes of lines, entries."""
        parameters = single(await parameters_of(request))
        selector = selector_of(needed(parameters, "query"), every=False)
        window = Window(*bounds(parameters))
        tenants = tenants_to_read(request)

        def work(ticket: Ticket) -> Response:
            return json_response(asdict(self._explorer.stats(tenants, selector, window, ticket)))

        return await asked(request, self._served, work)

    async def volume(self, request: Request) -> Response:
        """/loki/api/v1/index/volume: bytes of lines by labels, over all of a time."""
        parameters = single(await parameters_of(request))
        window = Window(*bounds(parameters))
        at = show_moment(window.end)

        def shown(found: list[Volume]) -> Response:
            result = [{"metric": one.labels, "value": [at, str(one.sizes[0])]} for one in found]
            return success({"resultType": "vector", "result": result, "stats": {}})

        return await self._volumes(request, parameters, window, shown)

    async def volume_range(self, request: Request) -> Response:
        """/loki/api/v1/index/volume_range: the same by steps, each told at its end."""
        parameters = single(await parameters_of(request))
        window = stepped(parameters, _MILLISECOND)
        return await self._volumes(request, parameters, window, lambda found: _matrix(found, window))

    async def _volumes(
        self, request: Request, parameters: dict[str, str], window: Window, shown: Callable[[list[Volume]], Response]
    ) -> Response:
        about = Asked(
            selector_of(needed(parameters, "query")),
            tuple(name for name in parameters.get("targetLabels", "").split(",") if name),
            _by_labels(parameters),
            count_of(parameters, ("limit",), _SERIES, MOST_SERIES, zero=True),
        )
        tenants = tenants_to_read(request)

        def work(ticket: Ticket) -> Response:
            return shown(self._explorer.volumes(tenants, about, window, ticket))

        return await asked(request, self._served, work)


def _matrix(found: list[Volume], window: Window) -> Response:
    step, end = window.step or 1, window.end

    def sample(cell: int, size: int) -> list[object]:
        # A step ends a millisecond before the next one begins.
        last = (cell + 1) * step
        return [show_moment(last - _MILLISECOND if last < end else end), str(size)]

    result = [
        {"metric": one.labels, "values": [sample(*pair) for pair in zip(one.cells, one.sizes, strict=True)]}
        for one in sorted(found, key=lambda one: (-one.sizes[0], one.name))  # as Loki, by what comes first
    ]
    return success({"resultType": "matrix", "result": result, "stats": {}})


def stepped(parameters: Mapping[str, str], least: int) -> Window:
    """The time that is asked for, in steps of at least `least` ns. Raises InputError for too many of them."""
    start, end = bounds(parameters)
    step = parse_step(parameters["step"], "step") if parameters.get("step") else default_step(start, end)
    step = max(step, least)
    if (end - start) // step > MOST_POINTS:
        raise InputError(
            f"exceeded maximum resolution of {MOST_POINTS:,} points per time series: there would be"
            f" {(end - start) // step:,}",
            "ask for a larger step or a shorter time",
        )
    return Window(start, end, step)


def count_of(
    parameters: Mapping[str, str], names: tuple[str, ...], default: int, most: int, *, zero: bool = False
) -> int:
    """The first of some parameters that is there: a number from 1 to `most`. With `zero`, 0 stands for the default."""
    name = next((name for name in names if parameters.get(name)), names[0])
    text = parameters.get(name) or str(default)
    if zero and text == "0":
        return default
    if not re.fullmatch(r"[0-9]{1,12}", text) or not 0 < int(text) <= most:
        raise InputError(f"{name}={text[:100]!r} is not a number from 1 to {most}")
    return int(text)


def _by_labels(parameters: Mapping[str, str]) -> bool:
    text = parameters.get("aggregateBy") or "series"
    if text not in ("series", "labels"):
        raise InputError(f"invalid aggregation option: aggregateBy={text[:100]!r} is neither series nor labels")
    return text == "labels"
