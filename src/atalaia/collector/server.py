"""The collector's own HTTP server, under Promtail's addresses: /ready, /metrics, /targets, /config …

It serves in a thread of its own; what it shows is asked for when somebody asks.
"""

from __future__ import annotations

import asyncio
import html
import logging
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from atalaia.collector.meters import Meters
from atalaia.collector.plan import Server
from atalaia.environment.errors import InputError
from atalaia.runtime.tls import TlsFiles, renewing_context

log = logging.getLogger("atalaia.collector")
_EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
_NOT_READY = (
    "Not ready: Unable to find any logs to tail. "
    "Please verify permissions, volumes, scrape_config, etc.\n"
)  # fmt: skip
_PAGES = {
    "ready": "whether anything is read",
    "metrics": "what is counted, for Prometheus",
    "targets": "what is read, and how far",
    "service-discovery": "targets before relabelling",
    "config": "the configuration, as it was understood",
}
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem;color:#222}
table{border-collapse:collapse;width:100%;margin:0 0 2rem}th,td{text-align:left;padding:.25rem .75rem .25rem 0;
border-bottom:1px solid #ddd;vertical-align:top}td.n{text-align:right;font-variant-numeric:tabular-nums}
code{font-size:13px}.no{color:#b00}"""


@dataclass(frozen=True, slots=True)
class TargetState:
    """A source of a job: `kind` as Promtail calls it (File, Syslog …), `details` such as each file and its position.

    `discovered`: its labels before relabelling.
    """

    job: str
    kind: str
    ready: bool
    labels: Mapping[str, str]
    details: Mapping[str, str] = field(default_factory=dict)
    discovered: Mapping[str, str] = field(default_factory=dict)


class CollectorServer:
    """`start` binds and returns; `stop` ends it. `targets` may be called from any thread."""

    def __init__(
        self,
        settings: Server,
        meters: Meters,
        targets: Callable[[], Sequence[TargetState]],
        config: str,
        reload: Callable[[], None] | None = None,
    ) -> None:
        """`config`: without secrets. `reload`: what POST /reload does. Raises InputError for unusable PEM files."""
        self._settings, self._meters, self._targets, self._config = settings, meters, targets, config
        self._reload = reload
        self._thread: threading.Thread | None = None
        self._socket: socket.socket | None = None
        prefix = settings.prefix
        routes = [
            Route(f"{prefix}/", self._index),
            Route(f"{prefix}/ready", self._ready),
            Route(f"{prefix}/targets", self._shown),
            Route(f"{prefix}/service-discovery", self._discovered),
            Route(f"{prefix}/config", self._configuration),
        ]
        if settings.metrics:
            routes.append(Route(f"{prefix}/metrics", self._metrics))
        if settings.reload and reload is not None:
            routes.append(Route(f"{prefix}/reload", self._reloaded, methods=["POST"]))
        config_ = uvicorn.Config(
            Starlette(routes=routes), log_config=None, access_log=False, lifespan="off", ws="none",
            limit_concurrency=100, timeout_graceful_shutdown=2,
        )  # fmt: skip
        config_.load()
        if settings.certificate is not None and settings.key is not None:
            config_.ssl = renewing_context(TlsFiles(settings.certificate, settings.key, settings.client_ca))
        self._server = uvicorn.Server(config_)

    @property
    def port(self) -> int:
        """Where it listens, once started."""
        assert self._socket is not None
        return int(self._socket.getsockname()[1])

    def start(self) -> None:
        """Listen. Raises InputError when the address cannot be had."""
        self._socket = _bind(self._settings)
        listening = self._socket
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._server.serve(sockets=[listening])), name="http", daemon=True
        )
        self._thread.start()
        log.info("event=listening address=%s port=%d", self._settings.address or "*", self.port)

    def stop(self) -> None:
        """Requests that are being answered are answered."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(10)
        if self._socket is not None:
            self._socket.close()

    async def _index(self, _: Request) -> Response:
        rows = [
            f'<li><a href="{self._settings.prefix}/{name}">{name}</a>: {text}</li>' for name, text in _PAGES.items()
        ]
        return _page("Atalaia's collector", f"<ul>{''.join(rows)}</ul>")

    async def _ready(self, _: Request) -> Response:
        found = await run_in_threadpool(self._targets)
        if self._settings.ready_when_reading and not any(target.ready for target in found):
            return PlainTextResponse(_NOT_READY, 503)
        return PlainTextResponse("Ready\n")

    async def _metrics(self, _: Request) -> Response:
        return Response(await run_in_threadpool(self._meters.exposition), media_type=_EXPOSITION)

    async def _shown(self, request: Request) -> Response:
        found = await run_in_threadpool(self._targets)
        if _wants_json(request):
            return _json(
                [{name: value for name, value in asdict(one).items() if name != "discovered"} for one in found]
            )
        rows = "".join(
            f"<tr><td>{_text(one.job)}</td><td>{_text(one.kind)}</td><td>{_yes(one.ready)}</td>"
            f"<td>{_labels(one.labels)}</td><td>{_details(one.details)}</td></tr>"
            for one in found
        )
        head = "<tr><th>Job</th><th>Type</th><th>Ready</th><th>Labels</th><th>Read up to</th></tr>"
        return _page("Targets", f"<table>{head}{rows}</table>")

    async def _discovered(self, request: Request) -> Response:
        found = await run_in_threadpool(self._targets)
        if _wants_json(request):
            names = ("job", "kind", "discovered", "labels")
            return _json([{name: getattr(one, name) for name in names} for one in found])
        rows = "".join(
            f"<tr><td>{_text(one.job)}</td><td>{_labels(one.discovered)}</td><td>{_labels(one.labels)}</td></tr>"
            for one in found
        )
        head = "<tr><th>Job</th><th>Discovered labels</th><th>Target labels</th></tr>"
        return _page("Service discovery", f"<table>{head}{rows}</table>")

    async def _configuration(self, _: Request) -> Response:
        return PlainTextResponse(self._config)

    async def _reloaded(self, _: Request) -> Response:
        assert self._reload is not None
        await run_in_threadpool(self._reload)
        return PlainTextResponse("")


def _bind(settings: Server) -> socket.socket:
    # As Promtail's: an empty address is every one, in IPv6 and IPv4.
    host = settings.address or ("::" if socket.has_dualstack_ipv6() else "0.0.0.0")  # noqa: S104 - as the file says
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server(
            (host, settings.port), family=family, dualstack_ipv6=not settings.address and family == socket.AF_INET6
        )
    except OSError as error:
        raise InputError(
            f"the collector's HTTP server cannot listen on {settings.address or '*'}:{settings.port}: {error.strerror}",
            "choose another server.http_listen_port, or write `disable: true` below server:",
        ) from error


def _wants_json(request: Request) -> bool:
    return request.query_params.get("format") == "json" or "application/json" in request.headers.get("accept", "")


def _json(content: object) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _page(title: str, body: str) -> HTMLResponse:
    return HTMLResponse(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1>{body}</html>"
    )


def _text(text: str) -> str:
    return html.escape(text)


def _yes(ready: bool) -> str:
    return "yes" if ready else '<span class="no">no</span>'


def _labels(labels: Mapping[str, str]) -> str:
    return "<br>".join(f'<code>{_text(name)}="{_text(value)}"</code>' for name, value in sorted(labels.items())) or "-"


def _details(details: Mapping[str, str]) -> str:
    return "<br>".join(f"{_text(name)}: {_text(value)}" for name, value in details.items()) or "-"
