"""The websocket protocol of the server: uvicorn's, which gives up a client that does not answer."""

from __future__ import annotations

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol


class Websockets(WebSocketsSansIOProtocol):
    """A client that reads nothing answers no ping either: what waits for it must not be kept until TCP gives up."""

    def keepalive_timeout(self) -> None:
        """No answer to a ping in time."""
        super().keepalive_timeout()
        self.transport.abort()
