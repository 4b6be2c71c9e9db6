"""The routes: requests in, Loki's answers out. What is slow runs in threads, so that no request waits for another."""

from __future__ import annotations

import asyncio
import logging
import re
import time

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from atalaia import __version__
from atalaia.api import answers
from atalaia.api.execute import Executor
from atalaia.api.http import body_of, guarded, json_response, needed, parameters_of, single, success, tenant_of
from atalaia.api.push import read_push
from atalaia.api.stored import StoreApi
from atalaia.api.times import bounds, default_step, parse_step, parse_time
from atalaia.environment.errors import InputError
from atalaia.logql.errors import NotBuilt
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery
from atalaia.store.batch import MOST
from atalaia.store.store import Store

log = logging.getLogger("atalaia.api")
MAX_LIMIT = 100_000
MAX_POINTS = 11_000


class Api:
    """The handlers over one store."""

    def __init__(self, store: Store, executor: Executor) -> None:
        self._store = store
        self._executor = executor

    async def push(self, request: Request) -> Response:
        """POST /loki/api/v1/push: 204, or 409 when the sources of a repeated push stand elsewhere."""
        tenant = tenant_of(request)
        body = await body_of(request, MOST)
        headers = request.headers
        pushed = await run_in_threadpool(
            read_push, body, headers.get("content-type", ""), headers.get("content-encoding", "")
        )
        future = await run_in_threadpool(self._store.append, pushed.table, tenant, pushed.sources, pushed.payload)
        appended = await asyncio.wrap_future(future)
        if appended.conflict is not None:
            return json_response({"positions": dict(appended.conflict)}, 409)
        if appended.refused is None:
            return Response(status_code=204)
        message = f"{appended.refused.count} entries refused, {appended.rows} stored; {appended.refused.message}"
        if pushed.sources:
            return json_response({"stored": appended.rows, "refused": message})
        return PlainTextResponse(f"{message}\n", 400)

    async def positions(self, request: Request) -> Response:
        """POST /atalaia/v1/positions {"ids": […]}: up to which byte each known source is stored."""
        try:
            ids = orjson.loads(await body_of(request, MOST))["ids"]
            if not isinstance(ids, list):
                raise TypeError(ids)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError('send {"ids": ["…"]}') from error
        found = {str(key): self._store.position(str(key)) for key in ids}
        return json_response({"positions": {key: value for key, value in found.items() if value is not None}})

    async def query_range(self, request: Request) -> Response:
        """/loki/api/v1/query_range: entries or series over a time."""
        parameters = single(await parameters_of(request))
        tree = parse(needed(parameters, "query"))
        start, end = bounds(parameters)
        tenant = tenant_of(request)
        if isinstance(tree, LogQuery):
            if parameters.get("interval", "0") not in ("", "0", "0s"):
                raise NotBuilt("the parameter `interval`")
            limit = _limit(parameters)
            backward = _backward(parameters)
            rows = await run_in_threadpool(self._executor.logs, tree, tenant, start, end, limit, backward)
            return success(answers.streams(rows, _categorised(request)))
        step = parse_step(parameters["step"], "step") if parameters.get("step") else default_step(start, end)
        steps = (end - start) // step + 1
        if steps > MAX_POINTS:
            raise InputError(
                f"{steps} points a series are more than {MAX_POINTS}: ask for a larger step or a shorter time"
            )
        matrix = await run_in_threadpool(self._executor.metric, tree, tenant, start, step, steps)
        return success(answers.matrix(matrix, start, step))

    async def query(self, request: Request) -> Response:
        """/loki/api/v1/query: a metric query at one moment."""
        parameters = single(await parameters_of(request))
        tree = parse(needed(parameters, "query"))
        if isinstance(tree, LogQuery):
            raise InputError(
                "log queries are not supported as an instant query type, please change your query to a range query type"
            )
        moment = parse_time(parameters["time"], "time") if parameters.get("time") else time.time_ns()
        matrix = await run_in_threadpool(self._executor.metric, tree, tenant_of(request), moment, 10**9, 1)
        return success(answers.vector(matrix, moment))

    async def labels(self, request: Request) -> Response:
        """/loki/api/v1/labels: the names of all labels."""
        found = await self._series(request)
        return success(sorted({name for labels in found for name in labels}))

    async def label_values(self, request: Request) -> Response:
        """/loki/api/v1/label/{name}/values."""
        name = request.path_params["name"]
        found = await self._series(request)
        return success(sorted({labels[name] for labels in found if name in labels}))

    async def series(self, request: Request) -> Response:
        """/loki/api/v1/series: the streams that match any of match[]."""
        return success(await self._series(request))

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
        return await run_in_threadpool(self._executor.series, tenant_of(request), selectors, start, end)

    async def ready(self, request: Request) -> Response:
        """/ready."""
        return PlainTextResponse("ready\n")

    async def build(self, request: Request) -> Response:
        """/loki/api/v1/status/buildinfo; clients look at the version to see what they may ask."""
        return json_response({"version": f"3.4.0-atalaia-{__version__}", "branch": "main", "goVersion": "none"})


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


async def not_built(request: Request) -> Response:
    """What Loki answers and this version does not."""
    raise NotBuilt(request.url.path)


# Loki's other routes; a path that Loki does not have either is a 404.
NOT_BUILT = (
    "/otlp/v1/logs",
    *(
        f"/loki/api/v1/{name}"
        for name in (
            "index/stats", "index/volume", "index/volume_range", "patterns", "detected_fields",
            "detected_field/{name}/values", "detected_labels", "format_query", "tail", "rules",
            "rules/{path:path}",
        )
    ),
    "/prometheus/api/v1/{path:path}",
    "/api/prom/{path:path}",
    "/metrics", "/config", "/services", "/log_level",
)  # fmt: skip


def create(store: Store, executor: Executor) -> Starlette:
    """The application."""
    api, stored = Api(store, executor), StoreApi(store, executor)
    both = ["GET", "POST"]
    routes = [
        ("/loki/api/v1/push", api.push, ["POST"]),
        ("/atalaia/v1/positions", api.positions, ["POST"]),
        ("/loki/api/v1/query", api.query, both),
        ("/loki/api/v1/query_range", api.query_range, both),
        ("/loki/api/v1/labels", api.labels, both),
        ("/loki/api/v1/label", api.labels, both),
        ("/loki/api/v1/label/{name}/values", api.label_values, both),
        ("/loki/api/v1/series", api.series, both),
        ("/loki/api/v1/status/buildinfo", api.build, ["GET"]),
        ("/loki/api/v1/delete", stored.delete, ["POST", "PUT"]),
        ("/loki/api/v1/delete", stored.deletions, ["GET"]),
        ("/loki/api/v1/delete", stored.cancel, ["DELETE"]),
        ("/atalaia/v1/store", stored.state, ["GET"]),
        ("/atalaia/v1/explain", stored.explain, both),
        ("/flush", stored.flush, ["POST"]),
        ("/ready", api.ready, ["GET"]),
    ]
    everything = ["GET", "POST", "PUT", "DELETE"]
    return Starlette(
        routes=[
            *(Route(path, guarded(handler), methods=methods) for path, handler, methods in routes),
            *(Route(path, guarded(not_built), methods=everything) for path in NOT_BUILT),
        ]
    )
