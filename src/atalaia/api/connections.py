"""Connections to the server, and how long each may keep it waiting.

uvicorn waits without end for a request's head, for its body, and for a client that does not take its answer. One sweep
a second over all connections ends what waits too long; the hot path only writes down the time.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import ssl
from dataclasses import dataclass
from enum import Enum
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from atalaia.runtime.renewed import Renewed

log = logging.getLogger("atalaia.api")
_HEAD_MOST = 64 << 10  # bytes
_SWEEP = 0.25  # seconds, at the most
_GRACE = 5.0  # seconds that every answer may take, however little memory is left


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds, but for `connections` (how many) and `answers` (bytes of all answers that wait for their clients)."""

    connections: int = 2000
    head: float = 10.0
    body_idle: float = 30.0
    body: float = 600.0
    answer_idle: float = 60.0
    answer: float = 1800.0
    answers: int = 256 << 20
    keep_alive: float = 75.0


class Phase(Enum):
    """What a connection waits for."""

    IDLE = "the next request"
    HEAD = "the head of a request"
    BODY = "the body of a request"
    WORK = "the server"
    ANSWER = "the client, to take its answer"


class Connections:
    """All open connections of a server."""

    def __init__(self, patience: Patience, tls: Renewed[ssl.SSLContext] | None = None) -> None:
        """`tls`: what new connections are secured by."""
        self.patience = patience
        self.open: set[Connection | Handshake] = set()
        self._tls = tls
        self.ended = 0
        """How many were ended for waiting too long, or to make room."""

    def protocol(self, **given: Any) -> asyncio.Protocol:
        """What uvicorn makes for each connection."""
        connection = Connection(self, **given)
        return Handshake(self, connection, self._tls.get()) if self._tls is not None else connection

    def add(self, connection: Connection | Handshake) -> None:
        """A new one. Where there are too many, those make room that have waited longest for their clients."""
        if len(self.open) >= self.patience.connections:
            waiting = [c for c in self.open if c.phase in (Phase.IDLE, Phase.HEAD)]
            for oldest in heapq.nsmallest(max(1, len(waiting) // 50), waiting, key=lambda c: c.since):
                self.end(oldest, "to make room")
            if not waiting:
                self.end(connection, "all others work")
                return
        self.open.add(connection)

    def end(self, connection: Connection | Handshake, why: str) -> None:
        """Cut a connection off."""
        self.ended += 1
        self.open.discard(connection)
        log.debug("event=connection_ended phase=%s reason=%r", connection.phase.name.lower(), why)
        connection.cut()

    async def sweep(self) -> None:
        """End what waits too long, for ever."""
        loop = asyncio.get_running_loop()
        some = self.patience
        pause = min(_SWEEP, *(t / 4 for t in (some.head, some.body_idle, some.answer_idle, some.keep_alive)))
        while True:
            await asyncio.sleep(pause)
            now = loop.time()
            for connection in list(self.open):
                if connection.overdue(now):
                    self.end(connection, f"it waited too long for {connection.phase.value}")
            self._bound_answers()

    def _bound_answers(self) -> None:
        """Where answers take too much memory, the client that has been at its own for longest loses it."""
        while True:
            waiting = [c for c in self.open if isinstance(c, Connection) and c.unsent]
            if sum(c.unsent for c in waiting) <= self.patience.answers:
                return
            self.end(min(waiting, key=lambda c: c.waiting_since), "answers take too much memory")

    def make_room(self) -> bool:
        """Cut off who has been at an answer for longest, if that is long; whether there was one."""
        before = asyncio.get_running_loop().time() - _GRACE
        slow = [c for c in self.open if isinstance(c, Connection) and 0 < c.waiting_since < before]
        if slow:
            self.end(min(slow, key=lambda c: c.waiting_since), "others wait for its answer's memory")
        return bool(slow)

    def close(self) -> None:
        """At the end of the server: handshakes that nobody finishes."""
        for connection in list(self.open):
            if isinstance(connection, Handshake):
                connection.cut()


class Connection(HttpToolsProtocol):
    """uvicorn's, which also knows what it waits for, and since when (seconds of the loop's clock)."""

    def __init__(self, all_: Connections, **given: Any) -> None:
        super().__init__(**given)
        self._all = all_
        self.phase = Phase.HEAD
        self.since = self.progress = self.loop.time()
        self.below: asyncio.Transport | None = None
        """What carries a secured connection."""
        self._early = bytearray()  # what came with the end of the handshake
        self._head = 0
        self._left = 0  # bytes of an answer at the last sweep
        self.waiting_since = 0.0
        """Since when an answer is there that the client has not taken; 0 for none."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        super().connection_made(transport)
        self._all.add(self)
        if early := bytes(self._early):
            self._early.clear()
            self.data_received(early)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._all.open.discard(self)
        if self.transport is not None:
            super().connection_lost(exc)

    @property
    def unsent(self) -> int:
        """Bytes of answers that the client has not taken."""
        below = self.below.get_write_buffer_size() if self.below is not None else 0
        return self.transport.get_write_buffer_size() + below

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        self.since = self.progress = self.loop.time()

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        if self.transport is None:
            self._early += data
            return
        if self.phase is Phase.IDLE:
            self._enter(Phase.HEAD)
        if self.phase is Phase.BODY:
            self.progress = self.loop.time()
        else:
            self._head += len(data)
        super().data_received(data)
        if self._head > _HEAD_MOST and not self.transport.is_closing():
            self.send_400_response("The head of this request is too long.")

    def on_headers_complete(self) -> None:
        """See httptools."""
        self._head = 0
        self.waiting_since = 0.0  # who asks again has taken the last answer
        self._enter(Phase.BODY)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See httptools."""
        super().on_message_complete()
        if self.phase is Phase.BODY:
            answered = self.cycle is not None and self.cycle.response_complete
            self._enter(Phase.IDLE if answered else Phase.WORK)

    def on_response_complete(self) -> None:
        """See uvicorn."""
        if self.phase is Phase.WORK:
            self._enter(Phase.WORK if self.pipeline else Phase.IDLE)
        super().on_response_complete()

    def handle_websocket_upgrade(self) -> None:
        """See uvicorn. From here on the websocket's own pings watch over it."""
        self._all.open.discard(self)
        super().handle_websocket_upgrade()

    def resume_writing(self) -> None:
        """See asyncio.Protocol: the client has taken most of what there was."""
        super().resume_writing()
        self.progress = self.loop.time()

    def overdue(self, now: float) -> bool:
        """Whether the client has let us wait too long."""
        some = self._all.patience
        if left := self.unsent:
            if not self.waiting_since:
                self.waiting_since = self.progress = now
            elif left < self._left:
                self.progress = now
            self._left = left
            return now - self.progress > some.answer_idle or now - self.waiting_since > some.answer
        self.waiting_since = 0.0
        match self.phase:
            case Phase.IDLE:
                return now - self.since > some.keep_alive
            case Phase.HEAD:
                return now - self.since > some.head
            case Phase.BODY:
                if self.flow.read_paused:  # we do not read what it sends
                    self.progress = now
                return now - self.progress > some.body_idle or now - self.since > some.body
        return False

    def cut(self) -> None:
        """End it, unsent or not."""
        self.transport.abort()


class Handshake(asyncio.Protocol):
    """A connection that is being secured, and then becomes one of HTTP; it counts from its first moment on."""

    phase = Phase.HEAD

    def __init__(self, all_: Connections, inner: Connection, context: ssl.SSLContext) -> None:
        self._all = all_
        self._inner = inner
        self._context = context
        self._transport: asyncio.Transport | None = None
        self._task: asyncio.Task[None] | None = None
        self.since = inner.since

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See asyncio.Protocol."""
        self._transport = transport
        self._all.add(self)
        if transport.is_closing():
            return
        self._task = asyncio.get_running_loop().create_task(self._secure())

    async def _secure(self) -> None:
        loop, some = asyncio.get_running_loop(), self._all.patience
        assert self._transport is not None
        try:
            secure = await loop.start_tls(
                self._transport,
                self._inner,
                self._context,
                server_side=True,
                ssl_handshake_timeout=some.head,
                ssl_shutdown_timeout=5.0,
            )
        except OSError:  # not TLS, a certificate that is missing or wrong, too slow, or gone
            self._transport.abort()
            return
        finally:
            self._all.open.discard(self)
        if secure is not None and not secure.is_closing():
            self._inner.below = self._transport
            self._inner.connection_made(secure)

    def connection_lost(self, exc: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._all.open.discard(self)

    def overdue(self, now: float) -> bool:
        """start_tls has its own time."""
        return False

    def cut(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.abort()
