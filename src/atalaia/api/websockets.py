"""The websocket protocol of the server: uvicorn's, which gives up a client that does not answer."""

from __future__ import annotations

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class Websockets(WebSocketsSansIOProtocol):
    """A client that reads nothing answers no ping either: what waits for it must not be kept until TCP gives up."""

    async def send(self, message: ASGISendEvent) -> None:
        """Send what the application says."""
        await super().send(message)
        if message["type"] == "websocket.http.response.body" and not message.get("more_body"):
            # uvicorn 0.54 takes a refusal for a handshake that was forgotten, and logs an error.
            self.handshake_complete = True

    def keepalive_timeout(self) -> None:
        """No answer to a ping in time."""
        super().keepalive_timeout()
        self.transport.abort()
