"""Whether the server runs, and what it is."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from atalaia import __version__
from atalaia.api.http import json_response
from atalaia.api.served import GET, Spec


class StatusApi:
    """The handlers."""

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/ready", self.ready, GET),
            ("/loki/api/v1/status/buildinfo", self.build, GET),
        ]

    async def ready(self, request: Request) -> Response:
        """/ready."""
        return PlainTextResponse("ready\n")

    async def build(self, request: Request) -> Response:
        """/loki/api/v1/status/buildinfo; clients look at the version to see what they may ask."""
        return json_response({"version": f"3.4.0-atalaia-{__version__}", "branch": "main", "goVersion": "none"})
