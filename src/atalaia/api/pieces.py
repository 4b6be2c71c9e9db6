"""Large answers: bounded while they are written, counted while their clients read them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from atalaia.environment.errors import AtalaiaError
from atalaia.query.ticket import QueryTooExpensive, Ticket

_AT_ONCE = 256 << 10  # bytes given to the connection at a time
_SMALL = 1 << 20  # bytes; such an answer is always taken


class TooMuchUnsent(AtalaiaError):
    """The server holds too many bytes of answers that clients have not read."""


class Pieces:
    """An answer in the making. `found` are its bytes."""

    def __init__(self, most: int, ticket: Ticket) -> None:
        self.found: list[bytes] = []
        self._left = self._most = most
        self._ticket = ticket

    def add(self, piece: bytes) -> None:
        """One more piece. Raises QueryTooExpensive for too much, and what `Ticket.check` raises."""
        self._ticket.check()
        self._left -= len(piece)
        if self._left < 0:
            raise QueryTooExpensive(
                f"the answer has more than {self._most >> 20} MiB",
                "ask for fewer entries (limit), a larger step or fewer labels; [logs.limits] answer_size is the bound",
            )
        self.found.append(piece)


class Unsent:
    """How many bytes of answers wait for their clients, of `most`. For one event loop."""

    def __init__(self, most: int, make_room: Callable[[], bool] = lambda: False) -> None:
        """`make_room`: cuts off the client that reads slowest, if there is a slow one."""
        self._most = most
        self._make_room = make_room
        self.size = 0

    def add(self, size: int) -> None:
        """Raises TooMuchUnsent."""
        if size > _SMALL and self.size + size > self._most and not self._make_room():
            raise TooMuchUnsent(
                f"{self.size} bytes of answers wait for clients that read slowly", "ask again when they have read them"
            )
        self.size += size

    def remove(self, size: int) -> None:
        """They are sent, or nobody is there to read them."""
        self.size -= size


class Encoded(Response):
    """JSON in pieces; each is let go when it is sent."""

    media_type = "application/json"

    def __init__(self, pieces: Sequence[bytes], unsent: Unsent) -> None:
        """Raises TooMuchUnsent."""
        size = sum(map(len, pieces))
        unsent.add(size)
        super().__init__(headers={"content-length": str(size)})
        self._pieces = list(pieces)
        self._unsent = unsent
        self._size = size

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            self._pieces.reverse()
            while self._pieces:
                some = [self._pieces.pop()]
                size = len(some[0])
                while self._pieces and size + len(self._pieces[-1]) <= _AT_ONCE:
                    some.append(self._pieces.pop())
                    size += len(some[-1])
                body = some[0] if len(some) == 1 else b"".join(some)
                await send({"type": "http.response.body", "body": body, "more_body": bool(self._pieces)})
        finally:
            self._unsent.remove(self._size)
