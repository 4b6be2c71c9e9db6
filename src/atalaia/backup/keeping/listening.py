"""The backup service's own HTTP server, on loopback alone: /metrics for Prometheus, /ready."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from atalaia.backup.keeping.metrics import CONTENT_TYPE

FIRST_PORT = 3120
_HOST = "127.0.0.1"


class Listening:
    """Serves until `stop`. `metrics` is called for each request, from threads of the server."""

    def __init__(self, ports: list[int], metrics: Callable[[], bytes]) -> None:
        """Listen on the first of `ports` that is free. Raises OSError when none is."""
        self._server = _bind(ports, _handler(metrics))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="metrics", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def ports_of(given: int | None, before: int) -> list[int]:
    """The port that was given alone; else the one of before, then the next ones."""
    return [given] if given else [*([before] if before else []), *range(FIRST_PORT, FIRST_PORT + 200)]


def _bind(ports: list[int], handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    problem = OSError(errno.EADDRNOTAVAIL, "no port is free")
    for port in ports:
        try:
            return ThreadingHTTPServer((_HOST, port), handler)
        except OSError as error:
            problem = error
    raise problem


def _handler(metrics: Callable[[], bytes]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0
        server_version = "Atalaia"
        sys_version = ""

        def do_GET(self) -> None:
            if self.path.partition("?")[0] == "/metrics":
                self._answer(200, CONTENT_TYPE, metrics())
            elif self.path == "/ready":
                self._answer(200, "text/plain", b"Ready\n")
            else:
                self._answer(404, "text/plain", b"there are /metrics and /ready\n")

        def _answer(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Requests are not told."""

    return Handler
