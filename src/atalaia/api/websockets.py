"""The websocket protocol of the server: uvicorn's, which gives up a client that does not answer."""

from __future__ import annotations

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

_GOING = 1001


class Websockets(WebSocketsSansIOProtocol):
    """A client that reads nothing answers no ping either: what waits for it must not be kept until TCP gives up."""

    async def send(self, message: ASGISendEvent) -> None:
        """Send what the application says."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            # uvicorn 0.54 takes a refusal for a handshake that was forgotten, and logs an error.
            self.handshake_complete = True

    def shutdown(self) -> None:
        """The server stops: 1001 says so (uvicorn would say 1012, that it comes back)."""
        if self.close_sent or not self.handshake_complete:
            super().shutdown()
            return
        self.stop_keepalive()
        self.queue.put_nowait({"type": "websocket.disconnect", "code": _GOING})
        self.conn.send_close(_GOING, "the server stops")
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.transport.close()

    def keepalive_timeout(self) -> None:
        """No answer to a ping in time."""
        super().keepalive_timeout()
        self.transport.abort()
