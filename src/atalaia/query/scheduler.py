"""Runs questions in threads: so many at once, the others wait in queues; each is listed and can be ended."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from atalaia.query.engine import QUICK, QueryLimits
from atalaia.query.queue import Queue
from atalaia.query.ticket import QueryNeedsMemory, Ticket

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Question:
    """Something that was asked. `tenant` is whose turn it takes; `waited` s in queues, `began` on the monotonic clock.

    `quick`: it reads little, such as the names of labels, and does not wait behind queries.
    """

    tenant: str
    text: str
    path: str
    ticket: Ticket
    quick: bool = False
    number: int = 0
    asked: float = field(default_factory=time.monotonic)
    began: float | None = None
    waited: float = 0.0


class Scheduler:
    """For one event loop. A question that needs more memory than its place has runs again where there is more."""

    def __init__(self, limits: QueryLimits) -> None:
        self.limits = limits
        places = range(1, limits.places + 1)
        self._queries = Queue(places, limits.waiting, spare=True)
        self._quick = Queue(range(limits.places + 1, limits.places + QUICK + 1), limits.waiting)
        self._large = Queue((0,), limits.waiting)
        self._numbers = itertools.count(1)
        self._questions: dict[int, Question] = {}
        self._pool = ThreadPoolExecutor(limits.places + QUICK + 1, "query")

    @property
    def queues(self) -> dict[str, Queue]:
        """By name."""
        return {"queries": self._queries, "quick": self._quick, "large": self._large}

    def questions(self) -> list[Question]:
        """What runs and what waits, in the order of asking."""
        return list(self._questions.values())

    def cancel(self, number: int) -> bool:
        """End a question; whether there is one of this number."""
        found = self._questions.get(number)
        if found is not None:
            found.ticket.cancel()
        return found is not None

    async def run(self, question: Question, work: Callable[[Question], T]) -> T:
        """What `work` finds, in its turn. Raises what `work`, or Queue.place, raises."""
        question.number = next(self._numbers)
        self._questions[question.number] = question
        question.ticket.pause()
        try:
            try:
                return await self._in(self._quick if question.quick else self._queries, question, work)
            except QueryNeedsMemory:
                return await self._in(self._large, question, work)
        finally:
            del self._questions[question.number]

    async def _in(self, queue: Queue, question: Question, work: Callable[[Question], T]) -> T:
        ticket, came = question.ticket, time.monotonic()
        async with queue.place(question.tenant, ticket, self.limits.patience) as place:
            question.began = time.monotonic()
            question.waited += question.began - came
            ticket.begin(place)
            running = asyncio.get_running_loop().run_in_executor(self._pool, work, question)
            try:
                return await asyncio.shield(running)
            except asyncio.CancelledError:
                ticket.cancel()
                await asyncio.wait([running])  # only then the place is free
                running.exception()  # nobody asks for it
                raise
            finally:
                question.began = None
                ticket.pause()

    def close(self) -> None:
        """End the threads; nothing may run any more."""
        for question in self.questions():
            question.ticket.cancel()
        self._pool.shutdown()
