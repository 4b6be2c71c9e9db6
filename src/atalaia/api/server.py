"""Runs the log store as a server in the foreground, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from dataclasses import dataclass, replace
from pathlib import Path

import uvicorn

from atalaia.api.app import create
from atalaia.api.pieces import Unsent
from atalaia.api.served import Served
from atalaia.api.websockets import Websockets
from atalaia.environment.errors import InputError
from atalaia.query.engine import Engine, QueryLimits
from atalaia.query.execute import Executor
from atalaia.query.scheduler import Scheduler
from atalaia.rules.publisher import Plan
from atalaia.rules.ruler import Ruler
from atalaia.store.options import Options
from atalaia.store.store import Store

log = logging.getLogger("atalaia.store")
_UNSENT = 4
"""How many of the largest answers may wait for clients that read slowly."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def bind(address: Address) -> socket.socket:
    """A listening socket; raises InputError when the address cannot be had."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's delay off; without, an answer could wait for 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((address.host, address.port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise InputError(
            f"cannot listen on {address}: {error.strerror}", "stop what listens there, or choose another port"
        ) from error
    listening.setblocking(False)
    return listening


def serve(directory: Path, address: Address, options: Options, queries: QueryLimits, rules: Plan | None = None) -> None:
    """Serve the store in `directory`; returns after a clean stop, memory written to a segment.

    Raises InputError when the address is taken, AtalaiaError when the store cannot be opened.
    """
    listening = bind(address)
    engine = Engine(queries)
    try:
        store = Store(directory, options)
    except BaseException:
        listening.close()
        engine.close()
        raise
    if store.recovered.replayed:
        log.info("event=replayed entries=%d", store.recovered.replayed)
    scheduler = Scheduler(queries)
    executor = Executor(store, engine)
    plan = rules or Plan()
    ruler = Ruler(store, executor, plan if plan.url else replace(plan, url=f"http://{address}"))
    try:
        ruler.start()
        log.info("event=listening address=%s directory=%s", address, directory)
        served = Served(store, executor, scheduler, Unsent(_UNSENT * queries.answer), ruler)
        asyncio.run(_run(served, listening))
    finally:
        ruler.stop()
        scheduler.close()
        engine.close()
        store.close()
        log.info("event=stopped")


async def _run(served: Served, listening: socket.socket) -> None:
    config = uvicorn.Config(
        create(served),
        http="httptools",
        ws=Websockets,
        ws_max_size=64 << 10,
        # Compression would hold the event loop up.
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        for tell in served.stopping:
            tell()
        server.should_exit = True

    # uvicorn would raise the signal again after its stop; the store must be closed in peace first.
    server.capture_signals = _no_signals  # type: ignore[method-assign,assignment]
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    await server.serve(sockets=[listening])


class _no_signals:
    """uvicorn's context manager for signals, without effect."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None
