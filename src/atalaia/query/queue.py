"""The queue of queries: fair between tenants, first come first served within one. For one event loop."""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from atalaia.environment.errors import AtalaiaError
from atalaia.query.ticket import QueryCancelled, Ticket

_TENANTS = 10
"""How many tenants' full queues there may be in all."""


class QueueFull(AtalaiaError):
    """Too many queries wait already."""


class WaitedTooLong(AtalaiaError):
    """A query's turn did not come."""


Waiter = asyncio.Future[int]


class Queue:
    """Gives free places to queries. Of the tenants that wait, those with the fewest running queries come first.

    With `spare`, the last free place is for a tenant that has no query running: a tenant that has comes into it never,
    so that nobody who asks now and then waits for another one's long queries.
    """

    def __init__(self, places: Iterable[int], most: int, spare: bool = False) -> None:
        """`places`: numbers, the lowest free one is given first; `most`: how many queries of a tenant may wait."""
        self._free = list(places)
        heapq.heapify(self._free)
        self._spare = spare and len(self._free) > 1
        self._most = most
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[Waiter]] = {}

    @property
    def running(self) -> int:
        """How many queries have a place."""
        return self._running.total()

    @property
    def waiting(self) -> int:
        """How many queries wait."""
        return sum(map(len, self._waiting.values()))

    @asynccontextmanager
    async def place(self, tenant: str, ticket: Ticket, seconds: float) -> AsyncIterator[int]:
        """A place, for as long as the block takes. Raises QueueFull, WaitedTooLong after `seconds`, QueryCancelled."""
        place = await self._turn(tenant, ticket, seconds)
        try:
            yield place
        finally:
            self._free_again(tenant, place)

    async def _turn(self, tenant: str, ticket: Ticket, seconds: float) -> int:
        ticket.check()
        own = self._waiting.get(tenant)
        if (own and len(own) >= self._most) or self.waiting >= _TENANTS * self._most:
            raise QueueFull(
                f"{len(own or ())} queries of tenant {tenant!r} wait already, of all tenants {self.waiting}",
                "ask again later; [logs.limits] queries_waiting is the bound",
            )
        loop = asyncio.get_running_loop()
        waiter: Waiter = loop.create_future()
        self._waiting.setdefault(tenant, deque()).append(waiter)
        self._give()

        def cancelled() -> None:
            loop.call_soon_threadsafe(self._leave, tenant, waiter)

        ticket.tell(cancelled)
        try:
            async with asyncio.timeout(seconds):
                return await self._given(tenant, waiter)
        except TimeoutError:
            raise WaitedTooLong(
                f"the query waited for its turn for {seconds:g} s", "ask again later, or fewer queries at once"
            ) from None
        finally:
            ticket.forget(cancelled)
            self._drop(tenant, waiter)

    async def _given(self, tenant: str, waiter: Waiter) -> int:
        try:
            return await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled() and waiter.exception() is None:
                self._free_again(tenant, waiter.result())  # it came in the same moment
            raise

    def _free_again(self, tenant: str, place: int) -> None:
        self._running[tenant] -= 1
        if not self._running[tenant]:
            del self._running[tenant]
        heapq.heappush(self._free, place)
        self._give()

    def _leave(self, tenant: str, waiter: Waiter) -> None:
        if not waiter.done():
            waiter.set_exception(QueryCancelled("the query was cancelled"))
            self._drop(tenant, waiter)

    def _drop(self, tenant: str, waiter: Waiter) -> None:
        """Take it out of the queue, where it is in it still."""
        own = self._waiting.get(tenant)
        if own is not None and waiter in own:
            own.remove(waiter)
            if not own:
                del self._waiting[tenant]

    def _give(self) -> None:
        while self._free and (tenant := self._next()) is not None:
            own = self._waiting.pop(tenant)
            waiter = own.popleft()
            if own:
                self._waiting[tenant] = own  # behind the others
            if waiter.done():
                continue  # it is leaving
            self._running[tenant] += 1
            waiter.set_result(heapq.heappop(self._free))

    def _next(self) -> str | None:
        tenant = min(self._waiting, key=lambda name: self._running[name], default=None)
        if tenant is not None and self._spare and len(self._free) == 1 and self._running[tenant]:
            return None
        return tenant
