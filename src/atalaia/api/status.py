"""Whether the server can work, and what it is."""

from __future__ import annotations

import platform

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from atalaia import __version__
from atalaia.api.http import json_response
from atalaia.api.served import GET, Served, Spec


class StatusApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._store = served.store

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/ready", self.ready, GET),
            ("/loki/api/v1/status/buildinfo", self.build, GET),
        ]

    async def ready(self, request: Request) -> Response:
        """/ready: 503 with the reason while pushes cannot be taken."""
        trouble = await run_in_threadpool(self._store.trouble)
        if trouble is not None:
            return PlainTextResponse(f"not ready: {trouble}\n", 503)
        return PlainTextResponse("ready\n")

    async def build(self, request: Request) -> Response:
        """/loki/api/v1/status/buildinfo; clients look at the version to see what they may ask."""
        return json_response(
            {
                "version": f"3.4.0-atalaia-{__version__}",
                "revision": "",
                "branch": "main",
                "buildUser": "",
                "buildDate": "",
                "goVersion": f"none (Python {platform.python_version()})",
            }
        )
