"""Who asks, and whether they may: before any handler, for every request, HTTP or websocket."""

from __future__ import annotations

import logging
from pathlib import Path

from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from atalaia.api.identity import Denied, Identities
from atalaia.api.scopes import Rule, Scopes
from atalaia.api.tenants import GRANTED, NAMELESS, named
from atalaia.environment import principals
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.hashing import of_token
from atalaia.environment.principals import OWN, Principal, Principals
from atalaia.query.ranges import Tenants
from atalaia.runtime.renewed import Renewed

log = logging.getLogger("atalaia.api")
_CHALLENGES = ('Bearer realm="atalaia"', 'Basic realm="atalaia", charset="UTF-8"')


class Access:
    """The principals of a file, as they are now. Without the file nobody is asked, until there is one."""

    def __init__(self, file: Path | None, own_token: Path | None = None) -> None:
        """`own_token`: the file of the token that lets an environment's own parts in. Raises InputError."""
        self._file = file
        self._own_token = own_token
        self._demanded = False
        self._identities = Renewed((file, own_token), self._read, self._tell)

    def _read(self) -> Identities | None:
        if self._file is None or not (self._demanded or self._file.exists()):
            return None
        self._demanded = True  # a file that vanishes does not open the store
        found = principals.read(self._file) if self._file.exists() else Principals()
        if self._own_token is not None and self._own_token.exists():
            secret = of_token(self._own_token.read_text(encoding="utf-8").strip())
            found = Principals((*found.all, Principal(OWN, None, principals.SCOPES, "token", secret)))
        return Identities(found)

    def _tell(self, error: AtalaiaError | OSError | None) -> None:
        if error is None:
            log.info("event=access_read file=%s", self._file)
        else:
            log.error("event=access_unreadable file=%s reason=%r kept=before", self._file, str(error))

    def identities(self) -> Identities | None:
        """Who is known; None where nobody is asked."""
        return self._identities.get()


class Guard:
    """The middleware."""

    def __init__(self, app: ASGIApp, access: Access, routes: list[BaseRoute]) -> None:
        self._app = app
        self._access = access
        self._scopes = Scopes(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        identities = self._access.identities()
        if identities is None or scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        rule = self._scopes.of(scope)
        if not rule.open:
            request = HTTPConnection(scope)
            try:
                principal = await identities.of(request)
                scope[GRANTED] = granted(principal, rule, named(request))
                if scope["type"] == "websocket":
                    send = self._while_allowed(request, rule, identities, send)
            except Denied as denied:
                await _refusal(denied)(scope, receive, send)
                return
            except InputError as error:
                await PlainTextResponse(f"{error}\n", 400)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _while_allowed(self, request: HTTPConnection, rule: Rule, known: Identities, send: Send) -> Send:
        """Sends to a websocket as long as its client may ask; what changed is looked at before the next frame."""
        tenants: Tenants = request.scope[GRANTED]

        async def checked(message: Message) -> None:
            nonlocal known
            now = self._access.identities()
            if now is not None and now is not known and message["type"] == "websocket.send":
                try:
                    granted(await now.of(request), rule, tenants or None)
                except (Denied, InputError) as error:
                    await send({"type": "websocket.close", "code": 1008, "reason": "you may ask no more"})
                    raise WebSocketDisconnect(1008) from error
                known = now
            await send(message)

        return checked


def granted(principal: Principal, rule: Rule, tenants: Tenants | None) -> Tenants:
    """The tenants that a request is about. Raises Denied, saying what is missing; InputError."""
    if rule.scope is not None and not principal.may(rule.scope):
        raise Denied(403, f"{principal.name} lacks the scope {rule.scope!r}")
    if not rule.tenants:
        return ()
    if tenants is None:
        if principal.tenants is None:
            return (NAMELESS,)
        if len(principal.tenants) != 1:
            raise InputError(
                f"{principal.name} has {len(principal.tenants)} tenants, and X-Scope-OrgID names none",
                f"send it with one of: {', '.join(principal.tenants)}",
            )
        return principal.tenants
    missing = [tenant for tenant in tenants if not principal.may_ask(tenant)]
    if missing:
        raise Denied(403, f"{principal.name} has no right to the tenant {missing[0]!r}")
    return tenants


def _refusal(denied: Denied) -> Response:
    answer = PlainTextResponse(f"{denied}\n", denied.status)
    if denied.status == 401:
        for challenge in _CHALLENGES:
            answer.headers.append("WWW-Authenticate", challenge)
    elif denied.status == 403:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="atalaia", error="insufficient_scope"'
    else:
        answer.headers["Retry-After"] = "60"
    return answer
