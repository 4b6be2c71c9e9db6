"""The routes: requests in, Loki's answers out. What is slow runs in threads, so that no request waits for another."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from atalaia import __version__
from atalaia.api import answers
from atalaia.api.execute import Executor
from atalaia.api.push import read_push
from atalaia.api.times import bounds, default_step, parse_step, parse_time
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.logql.errors import LogQLError, NotBuilt
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery
from atalaia.store.batch import MOST
from atalaia.store.commit import StoreUnavailable
from atalaia.store.store import Store

log = logging.getLogger("atalaia.api")
MAX_LIMIT = 100_000
MOST_FORM = 1 << 20  # bytes of a form
MAX_POINTS = 11_000
_TENANT = re.compile(r"[A-Za-z0-9!\-_.*'()]{1,150}")
Handler = Callable[[Request], Awaitable[Response]]


def json_response(data: object, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(orjson.dumps(data), status, media_type="application/json")


def success(data: object) -> Response:
    """Loki's envelope of a good answer."""
    return json_response({"status": "success", "data": data})


def tenant_of(request: Request) -> str:
    """The tenant that X-Scope-OrgID names, or Loki's name for none."""
    name = request.headers.get("x-scope-orgid", "fake")
    if "|" in name:
        raise NotBuilt("reading several tenants at once")
    if not _TENANT.fullmatch(name):
        raise InputError(
            f"X-Scope-OrgID {name[:160]!r} is not a tenant's name: letters, digits and !-_.*'(), at most 150"
        )
    return name


class TooLarge(InputError):
    """The body of a request is larger than the server reads."""


async def _body(request: Request, most: int) -> bytes:
    """The body, as long as it has at most `most` bytes, whatever its header says. Raises TooLarge."""
    parts: list[bytes] = []
    size = 0
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told[:19]) > most:
        raise TooLarge(f"the body of this request may have at most {most} bytes")
    async for part in request.stream():
        size += len(part)
        if size > most:
            raise TooLarge(f"the body of this request may have at most {most} bytes")
        parts.append(part)
    return b"".join(parts)


async def parameters_of(request: Request) -> list[tuple[str, str]]:
    """The parameters of the form of a POST, then those of the address."""
    form = await _body(request, MOST_FORM) if request.method == "POST" else b""
    try:
        return [
            pair
            for text in (form, request.scope["query_string"])
            for pair in parse_qsl(text.decode(), keep_blank_values=True, errors="strict")
        ]
    except ValueError as error:
        raise InputError(f"the parameters cannot be read: {error}") from error


class Api:
    """The handlers over one store."""

    def __init__(self, store: Store, executor: Executor) -> None:
        self._store = store
        self._executor = executor

    async def push(self, request: Request) -> Response:
        """POST /loki/api/v1/push: 204, or 409 when the sources of a repeated push stand elsewhere."""
        tenant = tenant_of(request)
        body = await _body(request, MOST)
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
            ids = orjson.loads(await _body(request, MOST))["ids"]
            if not isinstance(ids, list):
                raise TypeError(ids)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError('send {"ids": ["…"]}') from error
        found = {str(key): self._store.position(str(key)) for key in ids}
        return json_response({"positions": {key: value for key, value in found.items() if value is not None}})

    async def query_range(self, request: Request) -> Response:
        """/loki/api/v1/query_range: entries or series over a time."""
        parameters = _single(await parameters_of(request))
        tree = parse(_needed(parameters, "query"))
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
        parameters = _single(await parameters_of(request))
        tree = parse(_needed(parameters, "query"))
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
        start, end = bounds(_single(pairs))
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


def _single(pairs: list[tuple[str, str]]) -> dict[str, str]:
    """The first of equal parameters counts."""
    return dict(reversed(pairs))


def _needed(parameters: dict[str, str], name: str) -> str:
    if not parameters.get(name):
        raise InputError(f"the parameter {name!r} is missing")
    return parameters[name]


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


def _refusal(error: Exception, status: int) -> Response:
    """What is wrong, without repeating a long request as a whole."""
    text = str(error)
    return PlainTextResponse(f"{text if len(text) <= 2000 else text[:2000] + '…'}\n", status)


def _guarded(handler: Handler) -> Handler:
    """Errors as Loki gives them: plain text, 400 for the caller's, 5xx for ours."""

    async def guarded(request: Request) -> Response:
        try:
            return await handler(request)
        except TooLarge as error:
            return _refusal(error, 413)
        except (LogQLError, InputError) as error:
            return _refusal(error, 400)
        except StoreUnavailable as error:
            return _refusal(error, 503)
        except AtalaiaError as error:
            return _refusal(error, 422)
        except ClientDisconnect:
            return Response(status_code=400)  # nobody is there to read it

    return guarded


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
            "detected_field/{name}/values", "detected_labels", "format_query", "tail", "delete", "rules",
            "rules/{path:path}",
        )
    ),
    "/prometheus/api/v1/{path:path}",
    "/api/prom/{path:path}",
    "/metrics", "/config", "/services", "/log_level", "/flush",
)  # fmt: skip


def create(store: Store, executor: Executor) -> Starlette:
    """The application."""
    api = Api(store, executor)
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
        ("/ready", api.ready, ["GET"]),
    ]
    everything = ["GET", "POST", "PUT", "DELETE"]
    return Starlette(
        routes=[
            *(Route(path, _guarded(handler), methods=methods) for path, handler, methods in routes),
            *(Route(path, _guarded(not_built), methods=everything) for path in NOT_BUILT),
        ]
    )
