"""Questions to the store wait for their turn, run in threads, and end when their client leaves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request

from atalaia.api.answers import Answer
from atalaia.api.pieces import Encoded, Pieces
from atalaia.api.served import Served
from atalaia.api.stats import statistics
from atalaia.api.tenants import tenants_to_read
from atalaia.query.scheduler import Question
from atalaia.query.ticket import Ticket

T = TypeVar("T")
_SHOWN = 2000  # characters of a question in the list of questions


async def asked(request: Request, served: Served, work: Callable[[Ticket], T], *, quick: bool = False) -> T:
    """What `work` finds for a request whose parameters were read. Every question that may take long goes through here.

    A `quick` one, which reads little, does not wait behind queries. Raises what `work` raises; QueueFull and
    WaitedTooLong; QueryCancelled when the client left, whom no answer reaches, or when somebody ended the question.
    """
    return await _run(request, served, lambda question: work(question.ticket), quick)


async def answered(
    request: Request, served: Served, work: Callable[[Ticket], Answer], *, quick: bool = False
) -> Encoded:
    """The same for a query: the whole answer with its statistics, made where the event loop does not wait for it.

    Raises QueryTooExpensive for one that is larger than the limit, too.
    """
    most = served.scheduler.limits.answer

    def encoded(question: Question) -> list[bytes]:
        answer = work(question.ticket)
        pieces = Pieces(most, question.ticket)
        pieces.add(b'{"status":"success","data":{')
        for piece in answer.pieces:
            pieces.add(piece)
        pieces.add(b',"stats":' + statistics(question, answer.returned) + b"}}")
        return pieces.found

    return Encoded(await _run(request, served, encoded, quick), served.unsent)


async def _run(request: Request, served: Served, work: Callable[[Question], T], quick: bool) -> T:
    # Several tenants' question takes the turn of the first.
    question = Question(tenants_to_read(request)[0], _text(request), request.url.path, served.executor.ticket(), quick)
    leaving = asyncio.create_task(_cancel_when_gone(request, question.ticket))
    try:
        return await served.scheduler.run(question, work)
    finally:
        leaving.cancel()


def _text(request: Request) -> str:
    """The query, or what else is asked; parameters_of read it."""
    pairs = getattr(request.state, "parameters", ())
    return next((value for name, value in pairs if name in ("query", "match[]", "match")), "")[:_SHOWN]


async def _cancel_when_gone(request: Request, ticket: Ticket) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    ticket.cancel()
