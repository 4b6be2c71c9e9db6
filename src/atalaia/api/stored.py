"""Routes about the store itself: its state, what a query reads, flush, deletion."""

from __future__ import annotations

import time
from dataclasses import asdict

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from atalaia.api.http import json_response, needed, parameters_of, single
from atalaia.api.served import GET, POST, Served, Spec
from atalaia.api.tenants import tenant_to_delete
from atalaia.environment.errors import InputError
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery
from atalaia.store.deletion import Deletion
from atalaia.wire.times import parse_time


class StoreApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._store = served.store

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/loki/api/v1/delete", self.delete, ("POST", "PUT")),
            ("/loki/api/v1/delete", self.deletions, GET),
            ("/loki/api/v1/delete", self.cancel, ("DELETE",)),
            ("/atalaia/v1/store", self.state, GET),
            ("/flush", self.flush, POST),
        ]

    async def state(self, request: Request) -> Response:
        """GET /atalaia/v1/store: whether background work is done, and what there is."""
        return json_response(asdict(await run_in_threadpool(self._store.state)))

    async def flush(self, request: Request) -> Response:
        """POST /flush: memory becomes a segment."""
        await run_in_threadpool(self._store.flush)
        return Response(status_code=204)

    async def delete(self, request: Request) -> Response:
        """POST or PUT /loki/api/v1/delete: hide what a selector and line filters find, and remove it from the files."""
        parameters = single(await parameters_of(request))
        tree = parse(needed(parameters, "query"))
        if not isinstance(tree, LogQuery):
            raise InputError("what is to be deleted is named by a selector and line filters, not by a metric query")
        start = parse_time(needed(parameters, "start"), "start")
        end = parse_time(parameters["end"], "end") if parameters.get("end") else time.time_ns()
        if start >= end:
            raise InputError("the time to delete is empty: start is not before end")
        await run_in_threadpool(self._served.executor.delete, tree, tenant_to_delete(request), start, end)
        return Response(status_code=204)

    async def cancel(self, request: Request) -> Response:
        """DELETE /loki/api/v1/delete: refused, since a deletion works at once."""
        raise InputError(
            "a deletion cannot be cancelled: it hides the entries at once, and their files are written again"
        )

    async def deletions(self, request: Request) -> Response:
        """GET /loki/api/v1/delete: the tenant's deletions, the finished ones too."""
        tenant = tenant_to_delete(request)
        found = await run_in_threadpool(self._store.deletions)
        return json_response([_shown(deletion) for deletion in found if deletion.tenant == tenant])


def _shown(deletion: Deletion) -> dict[str, object]:
    """As Loki shows a deletion (times in seconds), with how many entries were removed from files and when it ended."""
    return {
        "request_id": str(deletion.id),
        "start_time": deletion.start / 1e9,
        "end_time": deletion.end / 1e9,
        "query": deletion.query,
        "status": "received" if deletion.finished is None else "processed",
        "created_at": deletion.requested,
        "finished_at": deletion.finished,
        "removed": deletion.rows,
    }
