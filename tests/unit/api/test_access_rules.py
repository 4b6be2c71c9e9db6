"""What a principal may ask, and of which tenants."""

from __future__ import annotations

import pytest
from starlette.requests import HTTPConnection
from starlette.responses import Response
from starlette.routing import Mount, Route, WebSocketRoute

from atalaia.api.access import granted
from atalaia.api.identity import Denied
from atalaia.api.scopes import ADMIN, DELETE, KNOWN, OPEN, READ, UNSTATED, Scopes, rule_of
from atalaia.api.tenants import GRANTED, named, tenant_to_push, tenants_to_read
from atalaia.environment.errors import InputError
from atalaia.environment.principals import Principal


def _request(tenant: str | None = None, **scope: object) -> HTTPConnection:
    headers = [] if tenant is None else [(b"x-scope-orgid", tenant.encode())]
    return HTTPConnection({"type": "http", "headers": headers, "path": "/", **scope})


def _who(tenants: tuple[str, ...] | None, *scopes: str) -> Principal:
    return Principal("ann", tenants, scopes, "token", "")  # type: ignore[arg-type]  # names of scopes


@pytest.mark.parametrize(
    ("tenants", "asked", "found"),
    [
        (("a",), None, ("a",)),
        (("a",), "a", ("a",)),
        (("a",), "b", 403),
        (("a",), "fake", 403),
        (("a", "b"), "b|a", ("a", "b")),
        (("a", "b"), "a|c", 403),
        (("a", "b"), None, 400),
        (None, None, ("fake",)),
        (None, "x|y|x", ("x", "y")),
        ((), None, 400),
        ((), "a", 403),
    ],
)
def test_tenants(tenants: tuple[str, ...] | None, asked: str | None, found: object) -> None:
    wanted = named(_request(asked))
    if found == 403:
        with pytest.raises(Denied) as denied:
            granted(_who(tenants, "read"), READ, wanted)
        assert denied.value.status == 403
    elif found == 400:
        with pytest.raises(InputError, match="names none"):
            granted(_who(tenants, "read"), READ, wanted)
    else:
        assert granted(_who(tenants, "read"), READ, wanted) == found


def test_a_scope_is_no_other() -> None:
    for rule in (READ, DELETE, ADMIN, UNSTATED):
        with pytest.raises(Denied, match=f"lacks the scope '{rule.scope}'"):
            granted(_who(None, "push"), rule, None)
    assert granted(_who(("a",), "push"), KNOWN, None) == ()


def test_what_was_granted_counts_and_not_the_header() -> None:
    request = _request("theirs", **{GRANTED: ("mine",)})
    assert tenants_to_read(request) == ("mine",)
    assert tenant_to_push(request) == "mine"
    with pytest.raises(InputError, match="about no tenant"):
        tenants_to_read(_request("theirs", **{GRANTED: ()}))


async def _nothing(request: object) -> Response:
    return Response()


def test_what_is_not_stated_needs_admin() -> None:
    scopes = Scopes(
        [
            Route("/loki/api/v1/label/{other}/values", _nothing),
            Route("/loki/api/v1/delete", _nothing, methods=["POST"]),
            Route("/new", _nothing),
            Route("/new/{name}", _nothing),
            WebSocketRoute("/loki/api/v1/tail", _nothing),
            WebSocketRoute("/new-socket", _nothing),
            Mount("/mounted", _nothing),
            Route("/ready", _nothing),
        ]
    )

    def of(path: str, kind: str = "http", method: str = "GET") -> object:
        return scopes.of({"type": kind, "path": path, "method": method, "headers": []})

    assert of("/loki/api/v1/label/x/values") == READ
    assert of("/loki/api/v1/delete") == DELETE  # by a wrong method
    assert of("/loki/api/v1/tail", "websocket") == READ
    assert (of("/new"), of("/new/x"), of("/new-socket", "websocket"), of("/mounted/x")) == (UNSTATED,) * 4
    assert of("/ready") == OPEN
    assert of("/nowhere") == KNOWN
    assert rule_of("/loki/api/v1/rules/{ns}", "HEAD") == READ
    assert rule_of("/loki/api/v1/rules/{ns}", "PATCH") == UNSTATED
