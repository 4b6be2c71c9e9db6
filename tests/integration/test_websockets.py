"""The server's websockets: a client that reads nothing is given up, whatever waits for it."""

from __future__ import annotations

import asyncio

import uvicorn
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from atalaia.api.websockets import Websockets

_HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def test_a_client_that_reads_nothing_is_given_up() -> None:
    async def run() -> int:
        given_up = asyncio.Event()
        sent = 0

        async def endless(websocket: WebSocket) -> None:
            nonlocal sent
            await websocket.accept()
            try:
                while True:
                    await websocket.send_text("x" * 1_000_000)
                    sent += 1
            except WebSocketDisconnect:
                given_up.set()

        config = uvicorn.Config(
            Starlette(routes=[WebSocketRoute("/", endless)]),
            port=0,
            ws=Websockets,
            ws_ping_interval=0.3,
            ws_ping_timeout=0.3,
            lifespan="off",
            log_config=None,
        )
        server = uvicorn.Server(config)
        config.load()
        server.lifespan = config.lifespan_class(config)
        await server.startup()
        port = server.servers[0].sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(_HANDSHAKE)
        await asyncio.wait_for(given_up.wait(), 20)
        writer.transport.abort()
        await server.shutdown()
        return sent

    assert asyncio.run(run()) > 0
