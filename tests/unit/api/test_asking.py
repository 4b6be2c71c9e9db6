"""Questions run, and their answers are written, beside the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import orjson
import pytest
from starlette.requests import Request

from atalaia.api.answers import Answer
from atalaia.api.asking import answered
from atalaia.api.pieces import Encoded, Pieces, TooMuchUnsent, Unsent
from atalaia.query.engine import QueryLimits
from atalaia.query.scheduler import Scheduler
from atalaia.query.ticket import QueryCancelled, QueryTooExpensive, Ticket


def test_an_answer_is_written_by_the_thread_that_asks() -> None:
    threads = []

    def pieces() -> Iterator[bytes]:
        threads.append(threading.current_thread().name)
        yield b'"resultType":"streams","result":[]'

    async def stays() -> Any:
        await asyncio.Event().wait()

    async def scenario() -> Encoded:
        scheduler = Scheduler(QueryLimits())
        served: Any = SimpleNamespace(
            scheduler=scheduler, unsent=Unsent(100), executor=SimpleNamespace(ticket=lambda: Ticket(60))
        )
        request = Request({"type": "http", "headers": [], "path": "/", "query_string": b""}, stays)
        found = await answered(request, served, lambda ticket: Answer(0, pieces()))
        scheduler.close()
        return found

    answer = asyncio.run(scenario())
    assert threads == ["query_0"]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(answer({}, stays, send))
    body = b"".join(message.get("body", b"") for message in sent)
    assert dict(sent[0]["headers"])[b"content-length"] == str(len(body)).encode()
    data = orjson.loads(body)["data"]
    assert (data["resultType"], data["result"]) == ("streams", [])
    assert data["stats"]["summary"]["totalEntriesReturned"] == 0


def test_large_answers_that_nobody_reads_are_bounded() -> None:
    unsent = Unsent(3 << 20)
    large = [b"x" * (1 << 20)] * 2
    held = Encoded(large, unsent)
    with pytest.raises(TooMuchUnsent, match="2097152 bytes of answers wait"):
        Encoded(large, unsent)
    small = Encoded([b"x"], unsent)  # always taken
    sent = 0

    async def send(message: Any) -> None:
        nonlocal sent
        sent += len(message.get("body", b""))

    async def leaves(message: Any) -> None:
        raise OSError("gone")

    async def receive() -> Any:
        raise AssertionError

    asyncio.run(held({}, receive, send))
    assert sent == 2 << 20
    with pytest.raises(OSError, match="gone"):
        asyncio.run(small({}, receive, leaves))
    assert unsent.size == 0


def test_pieces_end_with_their_query() -> None:
    ticket = Ticket(60)
    pieces = Pieces(2 << 20, ticket)
    pieces.add(b"x" * (2 << 20))
    with pytest.raises(QueryTooExpensive, match="the answer has more than 2 MiB"):
        pieces.add(b"x")
    ticket.cancel()
    with pytest.raises(QueryCancelled):
        Pieces(2 << 20, ticket).add(b"")
