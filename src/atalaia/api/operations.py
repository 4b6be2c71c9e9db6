"""What whoever runs the server asks: metrics, the settings in use, its parts, how much it logs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass

import yaml
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from atalaia.api.http import json_response, parameters_of, single
from atalaia.api.served import GET, Served, Spec
from atalaia.runtime.measures import render

_TEXT = "text/plain; version=0.0.4; charset=utf-8"
_OPEN = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_SECRET = ("password", "secret", "token", "key_file", "hash")

log = logging.getLogger("atalaia")


class OperationsApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/metrics", self.metrics, GET),
            ("/config", self.config, GET),
            ("/services", self.services, GET),
            ("/log_level", self.level, GET),
            ("/log_level", self.set_level, ("POST",)),
        ]

    async def metrics(self, request: Request) -> Response:
        """GET /metrics, in OpenMetrics for whoever asks for it."""
        metrics = self._served.metrics
        wanted = "application/openmetrics-text" in request.headers.get("accept", "")
        queries = metrics.queries()
        text = await run_in_threadpool(lambda: render([*metrics.families(), *queries], wanted))
        return Response(text, media_type=_OPEN if wanted else _TEXT)

    async def config(self, request: Request) -> Response:
        """GET /config: the settings in use, without secrets."""
        text = yaml.safe_dump(plain(self._served.settings), sort_keys=False, allow_unicode=True)
        return Response(text, media_type="text/yaml")

    async def services(self, request: Request) -> Response:
        """GET /services: the parts of the server and whether they run."""
        parts = {"api": True, **self._served.store.threads()}
        lines = [f"{name} => {'Running' if runs else 'Failed'}\n" for name, runs in parts.items()]
        return PlainTextResponse("".join(lines))

    async def level(self, request: Request) -> Response:
        """GET /log_level."""
        names = {number: name for name, number in _LEVELS.items()}
        return json_response({"message": f"Current log level is {names.get(log.getEffectiveLevel(), 'info')}"})

    async def set_level(self, request: Request) -> Response:
        """POST /log_level: `log_level` is debug, info, warn or error; it stands until the server is started again."""
        wanted = single(await parameters_of(request)).get("log_level", "").lower()
        if wanted not in _LEVELS:
            message = f"unrecognized log level {wanted[:100]!r}: there are {', '.join(_LEVELS)}"
            return json_response({"message": message, "status": "failed"}, 400)
        log.setLevel(_LEVELS[wanted])
        log.info("event=log_level level=%s", wanted)
        return json_response({"message": f"Log level set to {wanted}", "status": "success"})


def plain(value: object, name: str = "") -> object:
    """Settings as YAML has them; what may be a secret is not shown."""
    if any(word in name for word in _SECRET) and value:
        return "<secret>"
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value), name)
    if isinstance(value, Mapping):
        return {str(key): plain(one, str(key)) for key, one in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(one, name) for one in value]
    return value if isinstance(value, (str, int, float, bool, type(None))) else str(value)
