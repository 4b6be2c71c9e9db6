"""Live tail: a websocket that first tells what is stored, then what is committed from then on."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.websockets import WebSocket, WebSocketDisconnect

from atalaia.api.frames import frame, old_frame
from atalaia.api.http import address_parameters, needed, refusal, single
from atalaia.api.outbox import Delay, Outbox
from atalaia.api.served import GET, Served, Spec
from atalaia.api.tenants import tenants_to_read
from atalaia.api.times import bounds
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.logql import rows
from atalaia.logql.entry import Entry
from atalaia.logql.errors import LogQLError
from atalaia.logql.literals import quote
from atalaia.logql.parse import parse
from atalaia.logql.plan import Streams, compile_pipeline
from atalaia.logql.tree import LogQuery
from atalaia.query.scheduler import Question as Waiting
from atalaia.query.tail import Dropped, Question, Tail
from atalaia.query.tails import Tails
from atalaia.runtime.measures import Family, Sample

MAX_LIMIT = 100_000
MAX_TAILS = 500
_MOST_DELAY = 5
_MOST_REASON = 120  # bytes of a closing frame's text
_MOST_SHOWN = 2000  # characters of a question in the list of questions
_GOING, _FAILED = 1001, 1011
Frame = Callable[[Sequence[Entry], Sequence[Dropped], bool], str]
SocketSpec = tuple[str, Callable[[WebSocket], Awaitable[None]]]
"""A websocket's path and who answers it."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a client asked for. `start` in ns, `delay` in seconds."""

    text: str
    question: Question
    start: int
    limit: int
    delay: int
    categorised: bool


class TailApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._tails = Tails(served.store, served.executor)
        # Of its own, so that tails take no thread from pushes and queries.
        self._threads = ThreadPoolExecutor(2, "tail")
        served.stopping.append(self.stop)
        served.metrics.sources.append(self._measured)
        self._over: list[asyncio.Event] = []

    def routes(self) -> list[Spec]:
        """What a request that is no websocket gets."""
        return [("/loki/api/v1/tail", self.plain, GET), ("/api/prom/tail", self.plain, GET)]

    def sockets(self) -> list[SocketSpec]:
        """The websockets."""
        return [("/loki/api/v1/tail", self.tail), ("/api/prom/tail", self.old_tail)]

    def stop(self) -> None:
        """Close all tails, since the server stops. To be called in the event loop."""
        for over in self._over:
            over.set()

    def _measured(self) -> list[Family]:
        return [Family("loki_querier_tail_active", "gauge", "Tails that are open.", [Sample(len(self._tails))])]

    async def plain(self, request: Request) -> Response:
        """GET without an upgrade."""
        _asked(request)
        raise InputError("a tail is a websocket: ask with a client that speaks it (`Upgrade: websocket`)")

    async def tail(self, websocket: WebSocket) -> None:
        """/loki/api/v1/tail."""
        await self._answer(websocket, frame)

    async def old_tail(self, websocket: WebSocket) -> None:
        """/api/prom/tail."""
        await self._answer(websocket, old_frame)

    async def _answer(self, websocket: WebSocket, show: Frame) -> None:
        try:
            asked = _asked(websocket)
            if len(self._tails) >= MAX_TAILS:
                raise InputError(f"there are {MAX_TAILS} tails already", "end one of them")
            tail = self._tails.open(asked.question)
        except (AtalaiaError, LogQLError) as error:
            await websocket.send_denial_response(refusal(error))
            return
        over = asyncio.Event()
        self._over.append(over)
        try:
            await websocket.accept()
            await _Session(self._served, self._threads, websocket, tail, asked, show).run(over)
        finally:
            self._over.remove(over)
            self._tails.close(tail)


class _Session:
    """One client's tail."""

    def __init__(
        self, served: Served, threads: ThreadPoolExecutor, websocket: WebSocket, tail: Tail, asked: _Asked, show: Frame
    ) -> None:
        self._served = served
        self._threads = threads
        self._websocket = websocket
        self._tail = tail
        self._asked = asked
        self._show = show
        self._outbox = Outbox()
        self._ticket = served.executor.ticket()

    async def run(self, over: asyncio.Event) -> None:
        """Until the client leaves, `over` is set or the tail fails."""
        works: list[Coroutine[Any, Any, Any]] = [self._listen(), self._follow(), self._send(), over.wait()]
        tasks = [asyncio.create_task(work) for work in works]
        code, reason = 0, ""
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            errors = [error for task in done if (error := task.exception())]
            if tasks[0] not in done and not any(isinstance(error, WebSocketDisconnect) for error in errors):
                code, reason = (_FAILED, str(errors[0])) if errors else (_GOING, "the server stops")
                if errors and not isinstance(errors[0], AtalaiaError):
                    raise errors[0]
        finally:
            self._ticket.cancel()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if code:
                with contextlib.suppress(WebSocketDisconnect, RuntimeError):  # it left meanwhile
                    await self._websocket.close(code, reason.encode()[:_MOST_REASON].decode(errors="ignore"))

    async def _listen(self) -> None:
        """Clients say nothing; that they leave is what is waited for."""
        while (await self._websocket.receive())["type"] != "websocket.disconnect":
            pass

    async def _follow(self) -> None:
        asked, tail, loop = self._asked, self._tail, asyncio.get_running_loop()
        came = asyncio.Event()
        tail.wake = lambda: _soon(loop, came)
        self._outbox.put(await self._history())
        delay = Delay(asked.delay)
        came.set()  # what came while the history was looked for
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(came.wait(), delay.wait())
            came.clear()
            batches, dropped = tail.take()
            if batches:
                came.set()  # there may be more
                self._ticket = self._served.executor.ticket()
                delay.put(await loop.run_in_executor(self._threads, tail.entries, batches, self._ticket))
            self._outbox.put(delay.due())
            self._outbox.drop(dropped)

    async def _history(self) -> list[Entry]:
        """What is stored; looked for in its turn, as any query."""
        asked = self._asked
        question = Waiting(asked.question.tenants[0], asked.text[:_MOST_SHOWN], self._websocket.url.path, self._ticket)
        return await self._served.scheduler.run(
            question, lambda found: self._tail.history(asked.start, asked.limit, found.ticket)
        )

    async def _send(self) -> None:
        while True:
            await self._outbox.filled.wait()
            entries, dropped = self._outbox.take()
            if entries or dropped:
                await self._websocket.send_text(self._show(entries, dropped, self._asked.categorised))


def _soon(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended
        loop.call_soon_threadsafe(event.set)


def _asked(connection: HTTPConnection) -> _Asked:
    """The parameters. Raises InputError, LogQLError."""
    parameters = single(address_parameters(connection))
    text = needed(parameters, "query")
    if parameters.get("regexp"):  # of old clients
        text = f"{text} |~ {quote(parameters['regexp'])}"
    tree = parse(text)
    if not isinstance(tree, LogQuery):
        raise InputError("only lines can be followed: ask with a selector and a pipeline, not with a metric query")
    # What is wrong with its templates, or too long, is told before the handshake.
    rows.pipeline(tree)
    compile_pipeline(tree, Streams({}))
    start, _ = bounds(parameters)
    limit = _number(parameters, "limit", 100, 1, MAX_LIMIT)
    delay = _number(parameters, "delay_for", 0, 0, _MOST_DELAY)
    categorised = "categorize-labels" in connection.headers.get("x-loki-response-encoding-flags", "")
    return _Asked(text, Question(tree, tenants_to_read(connection)), start, limit, delay, categorised)


def _number(parameters: dict[str, str], name: str, usual: int, least: int, most: int) -> int:
    text = parameters.get(name) or str(usual)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise InputError(f"{name}={text[:100]!r} is not a whole number from {least} to {most}")
    return int(text)
