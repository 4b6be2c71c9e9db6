"""An HTTP server that answers as it is told and keeps what it was asked: a Loki, an identity provider, a proxy."""

from __future__ import annotations

import contextlib
import http.server
import socket
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from atalaia.wire.push import read_push

PUSH = "/loki/api/v1/push"


@dataclass(frozen=True)
class Asked:
    """A request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def rows(self) -> list[dict[str, object]]:
        """A push's entries."""
        table = read_push(self.body, self.headers.get("content-type", ""), "").table
        return [dict(row) for row in table.to_pylist()]

    @property
    def lines(self) -> list[str]:
        return [str(row["line"]) for row in self.rows]

    @property
    def form(self) -> dict[str, str]:
        return {key: values[0] for key, values in parse_qs(self.body.decode()).items()}


@dataclass
class Reply:
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class Scripted:
    """`replies` are used up in turn by requests for `path`; then `otherwise` says. Others get 404."""

    def __init__(self, path: str = PUSH, tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self.asked: list[Asked] = []
        self.replies: list[Reply] = []
        self.otherwise: Callable[[Asked], Reply] = lambda _: Reply()
        self.path = path
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer._connections.append(self.connection)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                reply = Reply(404)
                if self.path.endswith(outer.path):
                    asked = Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                    outer.asked.append(asked)
                    reply = outer.replies.pop(0) if outer.replies else outer.otherwise(asked)
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                self.wfile.write(reply.body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that hangs up is meant."""

        self._connections: list[socket.socket] = []
        self._server = Server(("127.0.0.1", port), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_port
        self.base = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self.url = f"{self.base}{path}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    @property
    def lines(self) -> list[str]:
        """The lines of all pushes, whatever was answered to them."""
        return [line for asked in self.asked for line in asked.lines]

    def close(self) -> None:
        """End as a process does: its connections are closed as well."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
