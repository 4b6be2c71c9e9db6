"""Questions to the store run in threads, so that no request waits for another, and end when their client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request

from atalaia.api.served import Served
from atalaia.query.ticket import Ticket

T = TypeVar("T")


async def asked(request: Request, served: Served, work: Callable[[Ticket], T]) -> T:
    """What `work` finds for a request whose parameters were read. Every question that may take long goes through here.

    Raises what `work` raises; QueryCancelled when the client left, whom no answer reaches.
    """
    ticket = served.executor.ticket()
    leaving = asyncio.create_task(_cancel_when_gone(request, ticket))
    try:
        return await run_in_threadpool(work, ticket)
    finally:
        leaving.cancel()


async def _cancel_when_gone(request: Request, ticket: Ticket) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    ticket.cancel()
