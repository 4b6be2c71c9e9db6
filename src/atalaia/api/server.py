"""Runs the log store as a server in the foreground, until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import resource
import signal
import socket
from dataclasses import dataclass, field, replace
from pathlib import Path

import uvicorn

from atalaia.api.access import Access
from atalaia.api.app import create
from atalaia.api.connections import Connections, Patience
from atalaia.api.metrics import Metrics
from atalaia.api.pieces import Unsent
from atalaia.api.rate import PushRate
from atalaia.api.served import Served
from atalaia.api.websockets import Websockets
from atalaia.environment.errors import InputError
from atalaia.query.engine import Engine, QueryLimits
from atalaia.query.execute import Executor
from atalaia.query.explore import Explorer
from atalaia.query.scheduler import Scheduler
from atalaia.rules.plan import Plan
from atalaia.rules.ruler import Ruler
from atalaia.runtime.tls import TlsFiles, renewed_context
from atalaia.store.options import Options
from atalaia.store.store import Store

log = logging.getLogger("atalaia.store")
_UNSENT = 4
"""How many of the largest answers may wait for clients that read slowly."""
_FILES = 512  # that the store and its queries open, beside connections


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


@dataclass(frozen=True, slots=True)
class Front:
    """Who is let in, and how. `access`: the file of those who may ask; `own_token`: of the environment's own parts."""

    access: Path | None = None
    own_token: Path | None = None
    tls: TlsFiles | None = None
    patience: Patience = field(default_factory=Patience)
    push_rate: int = 0
    """Bytes a second of each tenant; 0 for any."""


def serve(
    directory: Path,
    address: Address,
    options: Options,
    queries: QueryLimits,
    front: Front | None = None,
    rules: Plan | None = None,
) -> None:
    """Serve the store in `directory`; returns after a clean stop, memory written to a segment.

    Raises InputError when the address is taken, or when anybody could reach the store; AtalaiaError when the store
    cannot be opened.
    """
    front = front or Front()
    if not ipaddress.ip_address(address.host).is_loopback:
        if front.access is None or not front.access.is_file():
            raise InputError(
                f"others can reach the store at {address}, and nobody would be asked who they are",
                "say first who may: `atalaia access add NAME --all-tenants`, with --access FILE for a store alone",
            )
        if front.tls is None:
            log.warning("event=unencrypted address=%s remedy='tokens can be read on the way: see [logs.tls]'", address)
    access = Access(front.access, front.own_token)
    secured = renewed_context(front.tls) if front.tls is not None else None
    connections = Connections(_with_files(front.patience), secured)
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
    ruler = Ruler(
        store, executor, plan if plan.url else replace(plan, url=f"{'https' if front.tls else 'http'}://{address}")
    )
    try:
        ruler.start()
        log.info("event=listening address=%s directory=%s", address, directory)
        metrics = Metrics(store, scheduler)
        metrics.sources.append(ruler.families)
        served = Served(
            store,
            executor,
            Explorer(store, engine),
            scheduler,
            Unsent(_UNSENT * queries.answer, connections.make_room),
            ruler,
            metrics,
            {"directory": directory, "listen": str(address), "store": options, "queries": queries},
            pushes=PushRate(front.push_rate),
        )
        asyncio.run(_run(served, access, listening, connections))
    finally:
        ruler.stop()
        scheduler.close()
        engine.close()
        store.close()
        log.info("event=stopped")


def _with_files(patience: Patience) -> Patience:
    """As many connections as there may be open files, which the soft limit is raised for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = patience.connections + _FILES
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft >= wanted:
        return patience
    found = max(8, soft - _FILES)
    log.warning("event=few_files limit=%d connections=%d", soft, found)
    return replace(patience, connections=found)


async def _run(served: Served, access: Access, listening: socket.socket, connections: Connections) -> None:
    config = uvicorn.Config(
        create(served, access),
        http=connections.protocol,  # type: ignore[arg-type]  # it calls what it takes for a class
        ws=Websockets,
        ws_max_size=64 << 10,
        # Compression would hold the event loop up.
        ws_per_message_deflate=False,
        log_config=None,
        access_log=False,
        timeout_graceful_shutdown=10,
        # The sweep ends idle connections; uvicorn's own timer would be one more for each request.
        timeout_keep_alive=86_400,
        lifespan="off",
    )
    server = uvicorn.Server(config)
    loop = asyncio.get_running_loop()

    def stop() -> None:
        server.should_exit = True

    # uvicorn would raise the signal again after its stop; the store must be closed in peace first.
    server.capture_signals = _no_signals  # type: ignore[method-assign,assignment]
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    sweeping = loop.create_task(connections.sweep())
    try:
        await server.serve(sockets=[listening])
    finally:
        sweeping.cancel()
        connections.close()


class _no_signals:
    """uvicorn's context manager for signals, without effect."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None
