"""Rules as they are set: groups in YAML by namespace, read, added and removed; and what recording rules recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from atalaia.api.http import body_of, json_response
from atalaia.api.served import GET, POST, Served, Spec
from atalaia.api.tenants import tenant_to_rule, tenants_to_read
from atalaia.environment.errors import InputError
from atalaia.logql.matrix import Labels
from atalaia.rules.evaluation import alert_series
from atalaia.rules.kept import NoSuchRules
from atalaia.rules.reading import read_group
from atalaia.rules.recorded import exposition
from atalaia.rules.ruler import ReadOnly
from atalaia.rules.running import View
from atalaia.rules.writing import group_data, to_yaml

_MOST = 1 << 20  # bytes of a group
_DELETE = ("DELETE",)
_BASES = ("/loki/api/v1/rules", "/api/prom/rules")  # the second is what old clients use


class RulesApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._ruler = served.ruler

    def routes(self) -> list[Spec]:
        """Their routes."""
        specs: list[Spec] = [("/atalaia/v1/recorded", self.recorded, GET)]
        for base in _BASES:
            specs += [
                (base, self.read, GET),
                (f"{base}/{{path:path}}", self.read, GET),
                (f"{base}/{{path:path}}", self.write, POST),
                (f"{base}/{{path:path}}", self.remove, _DELETE),
            ]
        return specs

    async def read(self, request: Request) -> Response:
        """GET /loki/api/v1/rules[/{namespace}[/{group}]]: YAML, or 404 where there is nothing."""
        names = _names(request, 0, 2)
        views = self._ruler.groups(tenants_to_read(request))
        found = [view for view in views if names == (view.placed.namespace, view.placed.group.name)[: len(names)]]
        if not found:
            return PlainTextResponse("no rule groups found\n" if len(names) < 2 else "group does not exist\n", 404)
        if len(names) == 2:
            return _yaml(group_data(found[0].placed.group))
        return _yaml(_by_namespace(found))

    async def write(self, request: Request) -> Response:
        """POST /loki/api/v1/rules/{namespace}: one group in YAML is added, or replaces the one of its name."""
        (namespace,) = _names(request, 1, 1)
        tenant = tenant_to_rule(request)
        body = await body_of(request, _MOST)
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise InputError(f"the body is not UTF-8: {error}") from error

        def put() -> None:
            self._ruler.put(tenant, namespace, read_group(text, Path("body")))

        return await _changed(put)

    async def remove(self, request: Request) -> Response:
        """DELETE /loki/api/v1/rules/{namespace}[/{group}]."""
        names = _names(request, 1, 2)
        tenant = tenant_to_rule(request)
        return await _changed(lambda: self._ruler.remove(tenant, *names))

    async def recorded(self, request: Request) -> Response:
        """GET /atalaia/v1/recorded: the newest samples of recording rules, and ALERTS, as Prometheus' text."""
        samples: dict[Labels, float] = {}
        for view in self._ruler.groups(tenants_to_read(request)):
            for known in view.known:
                if known.error is None:
                    samples |= {**known.samples, **alert_series(known)}
        return PlainTextResponse(exposition(samples), media_type="text/plain; version=0.0.4")


def _by_namespace(views: list[View]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for view in views:
        found.setdefault(view.placed.namespace, []).append(group_data(view.placed.group))
    return found


def _yaml(data: object) -> Response:
    return Response(to_yaml(data), media_type="application/yaml")


def _names(request: Request, least: int, most: int) -> tuple[str, ...]:
    """Namespace and group; a name may have slashes, written %2F. Raises InputError."""
    path = request.scope["raw_path"].decode("ascii", "replace").partition("?")[0].partition("/rules")[2]
    try:
        names = tuple(unquote(part, errors="strict") for part in path.strip("/").split("/") if part)
    except UnicodeDecodeError as error:
        raise InputError("the address is not UTF-8") from error
    if not least <= len(names) <= most:
        raise InputError("name a namespace, or a namespace and a group: …/rules/NAMESPACE/GROUP")
    return names


async def _changed(work: Callable[[], None]) -> Response:
    """Loki's answer to a change that was made."""
    try:
        await run_in_threadpool(work)
    except NoSuchRules as error:
        return PlainTextResponse(f"{error}\n", 404)
    except ReadOnly as error:
        return PlainTextResponse(f"{error}\n", 409)
    return json_response({"status": "success", "data": None, "errorType": "", "error": ""}, 202)
