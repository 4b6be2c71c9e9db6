"""The HTTP server of a push listener: routes, bounds and answers."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.runtime.tls import TlsFiles, renewing_context
from atalaia.wire.bounds import TooLarge

if TYPE_CHECKING:
    from atalaia.collector.listeners.push import Push

MOST_BODY = 64 << 20  # bytes of a body, as it is sent
_AT_ONCE = 4  # bodies that are read at a time; other clients wait
_CONNECTIONS = 1000
_COME_AGAIN = {"Retry-After": "5"}


class Full(Exception):
    """The spool has no room: the client is to come again."""


class Web:
    """Serves in a thread of its own, with an event loop of its own."""

    def __init__(self, push: Push, name: str, tls: TlsFiles | None, read_timeout: float) -> None:
        """Raises InputError for unusable PEM files. `read_timeout` in seconds."""
        self._push, self._timeout = push, read_timeout
        self._slots: asyncio.Semaphore | None = None
        routes = [
            Route("/loki/api/v1/push", self._guarded(self._pushed), methods=["POST"]),
            Route("/api/prom/push", self._guarded(self._pushed), methods=["POST"]),
            Route("/promtail/api/v1/raw", self._guarded(self._raw), methods=["POST"]),
            Route("/ready", _ready),
        ]
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=5,
        )
        config.load()
        if tls is not None:
            config.ssl = renewing_context(tls)
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None
        self._name = name

    def start(self, listening: socket.socket) -> None:
        """Serve what comes in at a bound socket."""
        self._socket = listening
        run = lambda: asyncio.run(self._server.serve(sockets=[listening]))  # noqa: E731 - it is a thread's body
        self._thread = threading.Thread(target=run, name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Requests that are being answered are answered."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join()
            self._socket.close()

    async def _pushed(self, request: Request, body: bytes) -> Response:
        headers = request.headers
        kind, encoding = headers.get("content-type", ""), headers.get("content-encoding", "")
        refused = await run_in_threadpool(self._push.take_push, body, kind, encoding)
        return PlainTextResponse(f"{refused}\n", 400) if refused else Response(status_code=204)

    async def _raw(self, request: Request, body: bytes) -> Response:
        await run_in_threadpool(self._push.take_raw, body, request.headers.get("content-encoding", ""))
        return Response(status_code=204)

    def _guarded(
        self, handler: Callable[[Request, bytes], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The handler with its body; errors as Loki answers them."""

        async def handled(request: Request) -> Response:
            if self._slots is None:
                self._slots = asyncio.Semaphore(_AT_ONCE)
            async with self._slots:
                try:
                    async with asyncio.timeout(self._timeout):
                        body = await _body(request)
                    return await handler(request, body)
                except TimeoutError:
                    return PlainTextResponse("the body did not arrive in time\n", 408, {"Connection": "close"})
                except ClientDisconnect:
                    return Response(status_code=400)  # nobody is there to read it
                except Full:
                    text = "the collector's spool is full: its outputs are away; send it again later\n"
                    return PlainTextResponse(text, 429, _COME_AGAIN)
                except AtalaiaError as error:
                    status = 413 if isinstance(error, TooLarge) else 400 if isinstance(error, InputError) else 422
                    return PlainTextResponse(f"{str(error)[:2000]}\n", status)

        return handled


async def _body(request: Request) -> bytes:
    told = request.headers.get("content-length", "")
    if told.isdigit() and int(told[:19]) > MOST_BODY:
        raise TooLarge(f"a push may have at most {MOST_BODY} bytes: send smaller batches")
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BODY:
            raise TooLarge(f"a push may have at most {MOST_BODY} bytes: send smaller batches")
        parts.append(part)
    return b"".join(parts)


async def _ready(_request: Request) -> Response:
    return PlainTextResponse("ready")
