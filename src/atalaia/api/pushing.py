"""Entries in: the push in all its encodings, and where the collector's sources stand."""

from __future__ import annotations

import asyncio

import orjson
import pyarrow as pa
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from atalaia.api.http import body_of, json_response
from atalaia.api.served import POST, Served, Spec
from atalaia.api.tenants import tenant_to_push
from atalaia.environment.errors import InputError
from atalaia.store.batch import MOST, Source
from atalaia.store.commit import Appended
from atalaia.wire.push import read_push


async def append(
    served: Served, table: pa.Table, tenant: str, sources: tuple[Source, ...] = (), payload: bytes | None = None
) -> Appended:
    """Hand a push to the store and count it. Raises StoreUnavailable."""
    await run_in_threadpool(served.metrics.received, tenant, table)
    served.pushes.spend(tenant, table.nbytes)
    future = await run_in_threadpool(served.store.append, table, tenant, sources, payload)
    appended = await asyncio.wrap_future(future)
    if appended.refused is not None:
        served.metrics.refused(tenant, appended.refused)
    return appended


class PushApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._served = served

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/loki/api/v1/push", self.push, POST),
            ("/atalaia/v1/positions", self.positions, POST),
        ]

    async def push(self, request: Request) -> Response:
        """POST /loki/api/v1/push: 204, or 409 when the sources of a repeated push stand elsewhere."""
        tenant = tenant_to_push(request)
        self._served.pushes.check(tenant)
        body = await body_of(request, MOST)
        headers = request.headers
        pushed = await run_in_threadpool(
            read_push, body, headers.get("content-type", ""), headers.get("content-encoding", "")
        )
        appended = await append(self._served, pushed.table, tenant, pushed.sources, pushed.payload)
        if appended.conflict is not None:
            return json_response({"positions": dict(appended.conflict)}, 409)
        if appended.refused is None:
            return Response(status_code=204)
        message = f"{appended.refused.count} entries refused, {appended.rows} stored; {appended.refused.message}"
        if pushed.sources:
            return json_response({"stored": appended.rows, "refused": message})
        return PlainTextResponse(f"{message}\n", 400)

    async def positions(self, request: Request) -> Response:
        """POST /atalaia/v1/positions {"ids": […]}: up to which byte each known source is stored."""
        try:
            ids = orjson.loads(await body_of(request, MOST))["ids"]
            if not isinstance(ids, list):
                raise TypeError(ids)
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError('send {"ids": ["…"]}') from error
        found = {str(key): self._served.store.position(str(key)) for key in ids}
        return json_response({"positions": {key: value for key, value in found.items() if value is not None}})
