"""What each route asks for: a scope, and rights to the tenants of the request. What is not stated needs `admin`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.routing import BaseRoute, Match, Mount, Route, WebSocketRoute
from starlette.types import Scope as Request

from atalaia.environment.principals import Scope


@dataclass(frozen=True, slots=True)
class Rule:
    """`scope`: None for whoever is known. `tenants`: whether the request is about those that it names."""

    scope: Scope | None
    tenants: bool = True
    open: bool = False


OPEN = Rule(None, tenants=False, open=True)
KNOWN = Rule(None, tenants=False)
READ, PUSH, DELETE = Rule("read"), Rule("push"), Rule("delete")
ADMIN = Rule("admin", tenants=False)
METRICS = Rule("metrics", tenants=False)
UNSTATED = Rule("admin")
_BY_METHOD = {"GET": READ, "POST": Rule("admin"), "DELETE": Rule("admin")}
_KNOWN_MOST = 4096  # addresses whose rule is remembered
_V1, _OLD = "/loki/api/v1", "/api/prom"

SCOPES: Mapping[str, Rule | Mapping[str, Rule]] = {
    "/ready": OPEN,
    # In
    f"{_V1}/push": PUSH,
    f"{_OLD}/push": PUSH,
    "/otlp/v1/logs": PUSH,
    f"{_V1}/otlp/v1/logs": PUSH,
    "/atalaia/v1/positions": Rule("push", tenants=False),  # sources have random names, and no tenant
    # Out
    **{
        f"{_V1}/{name}": READ
        for name in (
            "query", "query_range", "labels", "label", "label/{}/values", "series", "tail", "index/stats",
            "index/volume", "index/volume_range", "patterns", "detected_fields", "detected_field/{}/values",
            "detected_labels",
        )
    },
    **{f"{_OLD}/{name}": READ for name in ("query", "label", "label/{}/values", "series", "tail")},
    f"{_V1}/format_query": KNOWN,
    "/atalaia/v1/explain": READ,
    # Deletion
    f"{_V1}/delete": DELETE,
    # Rules
    f"{_V1}/rules": READ,
    f"{_V1}/rules/{{}}": _BY_METHOD,
    f"{_V1}/rules/{{}}/{{}}": _BY_METHOD,
    f"{_OLD}/rules": READ,
    f"{_OLD}/rules/{{}}": _BY_METHOD,
    f"{_OLD}/rules/{{}}/{{}}": _BY_METHOD,
    "/prometheus/api/v1/rules": READ,
    "/prometheus/api/v1/alerts": READ,
    "/prometheus/api/v1/{}": READ,
    "/atalaia/v1/recorded": READ,
    # The server itself
    f"{_V1}/status/buildinfo": KNOWN,
    "/metrics": METRICS,
    "/config": ADMIN,
    "/services": ADMIN,
    "/log_level": ADMIN,
    "/flush": ADMIN,
    "/atalaia/v1/store": ADMIN,
    "/atalaia/v1/queries": ADMIN,
    "/atalaia/v1/queries/{}": ADMIN,
    f"{_OLD}/{{}}": KNOWN,
}  # fmt: skip


def rule_of(path: str, method: str) -> Rule:
    """The rule of a route, by its path as it was stated; what its parameters are called does not matter."""
    found = SCOPES.get(_parameters(path), UNSTATED)
    if isinstance(found, Rule):
        return found
    return found.get("GET" if method == "HEAD" else method, UNSTATED)


def _parameters(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", path)


def stated(path: str) -> bool:
    """Whether a route has a rule here, so that nobody forgot it."""
    return _parameters(path) in SCOPES


class Scopes:
    """The rules of an application's routes."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self._routes = routes
        self._known: dict[tuple[str, str, str], Rule] = {}

    def of(self, request: Request) -> Rule:
        """The rule of a request; KNOWN for one that no route answers, so that it is told so."""
        asked = request["type"], request.get("method", "GET"), request["path"]
        found = self._known.get(asked)
        if found is None:
            if len(self._known) >= _KNOWN_MOST:
                self._known.clear()
            found = self._known[asked] = self._find(request)
        return found

    def _find(self, request: Request) -> Rule:
        partial: BaseRoute | None = None
        for route in self._routes:
            match, _ = route.matches(request)
            if match is Match.FULL:
                return _rule(route, request)
            if match is Match.PARTIAL and partial is None:
                partial = route
        return _rule(partial, request) if partial is not None else KNOWN


def _rule(route: BaseRoute, request: Request) -> Rule:
    if isinstance(route, Route | WebSocketRoute | Mount):
        return rule_of(route.path, request.get("method", "GET"))
    return UNSTATED
