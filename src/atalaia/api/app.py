"""The application: all routes."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from atalaia.api.access import Access, Guard
from atalaia.api.detecting import DetectingApi
from atalaia.api.explain import ExplainApi
from atalaia.api.exploring import ExploringApi
from atalaia.api.http import guarded
from atalaia.api.names import NamesApi
from atalaia.api.old import OldApi
from atalaia.api.operations import OperationsApi
from atalaia.api.otlp import OtlpApi
from atalaia.api.pushing import PushApi
from atalaia.api.queries import QueryApi
from atalaia.api.rules import RulesApi
from atalaia.api.rulestates import RuleStatesApi
from atalaia.api.running import RunningApi
from atalaia.api.served import Served
from atalaia.api.status import StatusApi
from atalaia.api.stored import StoreApi
from atalaia.api.tail import TailApi
from atalaia.logql.errors import NotBuilt


async def not_built(request: Request) -> Response:
    """What Loki answers and this version does not."""
    raise NotBuilt(request.url.path)


# Loki's other routes; a path that Loki does not have either is a 404.
NOT_BUILT = ("/api/prom/{path:path}",)


def create(served: Served, access: Access | None = None) -> Starlette:
    """The application. `access`: who may ask; without it nobody is asked who they are."""
    tails = TailApi(served)
    specs = [
        *PushApi(served).routes(),
        *OtlpApi(served).routes(),
        *QueryApi(served).routes(),
        *NamesApi(served).routes(),
        *ExploringApi(served).routes(),
        *DetectingApi(served).routes(),
        *StoreApi(served).routes(),
        *ExplainApi(served).routes(),
        *RunningApi(served).routes(),
        *tails.routes(),
        *RulesApi(served).routes(),
        *RuleStatesApi(served).routes(),
        *OldApi(served).routes(),
        *OperationsApi(served).routes(),
        *StatusApi(served).routes(),
    ]
    timed = served.metrics.timed
    everything = ["GET", "POST", "PUT", "DELETE"]
    routes: list[BaseRoute] = [
        *(Route(path, timed(path, guarded(handler)), methods=list(methods)) for path, handler, methods in specs),
        *(WebSocketRoute(path, handler) for path, handler in tails.sockets()),
        *(Route(path, timed(path, guarded(not_built)), methods=everything) for path in NOT_BUILT),
    ]
    guards = [Middleware(Guard, access=access, routes=routes)] if access is not None else []
    return Starlette(routes=routes, middleware=guards)
