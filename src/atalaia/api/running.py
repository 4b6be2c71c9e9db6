"""The questions that run or wait: a list of them, and how one is ended."""

from __future__ import annotations

import time

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from atalaia.api.http import json_response
from atalaia.api.served import GET, Served, Spec
from atalaia.query.scheduler import Question


class RunningApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._scheduler = served.scheduler

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/atalaia/v1/queries", self.queries, GET),
            ("/atalaia/v1/queries/{number}", self.cancel, ("DELETE",)),
        ]

    async def queries(self, request: Request) -> Response:
        """GET /atalaia/v1/queries: what runs and what waits, of all tenants, in the order of asking."""
        queues = {
            name: {"running": queue.running, "waiting": queue.waiting} for name, queue in self._scheduler.queues.items()
        }
        return json_response({"queries": [_shown(q) for q in self._scheduler.questions()], "queues": queues})

    async def cancel(self, request: Request) -> Response:
        """DELETE /atalaia/v1/queries/{number}: 204; its client gets a 499."""
        text = request.path_params["number"]
        if not text.isdecimal() or not self._scheduler.cancel(int(text[:19])):
            return PlainTextResponse(f"no query {text[:30]!r} runs or waits\n", 404)
        return Response(status_code=204)


def _shown(question: Question) -> dict[str, object]:
    """Seconds since it was asked; `rows` are the entries of what it reads, as far as it has come."""
    return {
        "id": question.number,
        "tenant": question.tenant,
        "query": question.text,
        "path": question.path,
        "state": "waiting" if question.began is None else "running",
        "seconds": round(time.monotonic() - question.asked, 3),
        "waited": round(question.waited, 3),
        "rows": sum(reading.rows for reading in list(question.ticket.readings)),
    }
