"""A server that speaks the part of Docker's Engine API (1.45) that a collector asks, over a Unix socket.

Answers have the fields and forms of a real engine's; there is no engine where these tests run.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import socket
import socketserver
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PART = 16 << 10


def stamp(moment: int) -> bytes:
    """RFC 3339 with nine digits, as the engine writes it."""
    whole = dt.datetime.fromtimestamp(moment // 10**9, dt.UTC)
    return f"{whole:%Y-%m-%dT%H:%M:%S}.{moment % 10**9:09d}Z".encode()


@dataclass
class Container:
    id: str
    name: str
    tty: bool = False
    labels: dict[str, str] = field(default_factory=dict)
    running: bool = True
    lines: list[tuple[int, int, bytes]] = field(default_factory=list)  # time, stream, text without its newline
    changed: threading.Condition = field(default_factory=threading.Condition)

    def write(self, text: str, moment: int | None = None, stream: int = 1) -> None:
        with self.changed:
            self.lines.append((moment or time.time_ns(), stream, text.encode()))
            self.changed.notify_all()

    def run(self, running: bool) -> None:
        with self.changed:
            self.running = running
            self.changed.notify_all()

    def listed(self) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Names": [f"/{self.name}"],
            "State": "running" if self.running else "exited",
            "Labels": self.labels,
            "Ports": [],
            "HostConfig": {"NetworkMode": "bridge"},
            "NetworkSettings": {"Networks": {"bridge": {"NetworkID": "n1", "IPAddress": "172.17.0.2"}}},
        }

    def encoded(self, moment: int, stream: int, text: bytes) -> bytes:
        whole = text + (b"\r\n" if self.tty else b"\n")
        parts = [whole[at : at + PART] for at in range(0, len(whole), PART)]
        data = b""
        for number, part in enumerate(parts):
            payload = stamp(moment + number) + b" " + part
            data += payload if self.tty else bytes([stream, 0, 0, 0]) + len(payload).to_bytes(4, "big") + payload
        return data


class DockerServer:
    """`asked`: the paths with their parameters, in order."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.containers: dict[str, Container] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._server: socketserver.ThreadingUnixStreamServer | None = None
        self._connections: set[socket.socket] = set()

    def add(self, container: Container) -> Container:
        self.containers[container.id] = container
        return container

    def start(self) -> None:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                super().setup()
                outer._connections.add(self.request)

            def address_string(self) -> str:
                return "unix"

            def log_message(self, *_: Any) -> None:
                return

            def do_GET(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    outer._answer(self)

        class Server(socketserver.ThreadingUnixStreamServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                return

        self.path.unlink(missing_ok=True)
        self._server = Server(str(self.path), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """As a daemon that ends: all connections are cut."""
        assert self._server is not None
        self._server.shutdown()
        for connection in list(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for container in self.containers.values():
            with container.changed:
                container.changed.notify_all()
        self._server.server_close()
        self._thread.join()
        self._connections.clear()
        self.path.unlink(missing_ok=True)

    def _answer(self, handler: BaseHTTPRequestHandler) -> None:
        address = urlsplit(handler.path)
        given = {name: values[0] for name, values in parse_qs(address.query).items()}
        self.asked.append((address.path, given))
        words = address.path.strip("/").split("/")
        if words == ["containers", "json"]:
            names = json.loads(given.get("filters", "{}")).get("name", [""])
            found = [c for c in self.containers.values() if any(name in c.name for name in names)]
            self._json(handler, [c.listed() for c in found if c.running or given.get("all") == "1"])
        elif words == ["networks"]:
            self._json(handler, [{"Id": "n1", "Name": "bridge", "Scope": "local", "Internal": False, "Ingress": False}])
        elif len(words) == 3 and words[1] in self.containers:
            container = self.containers[words[1]]
            if words[2] == "json":
                self._json(handler, {"Id": container.id, "Config": {"Tty": container.tty}})
            else:
                self._log(handler, container, given)
        else:
            self._json(handler, {"message": f"No such container: {words[-2]}"}, 404)

    def _json(self, handler: BaseHTTPRequestHandler, data: Any, status: int = 200) -> None:
        body = json.dumps(data).encode()
        handler.send_response(status)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def _log(self, handler: BaseHTTPRequestHandler, container: Container, given: dict[str, str]) -> None:
        assert given["timestamps"] == given["follow"] == given["stdout"] == given["stderr"] == "1"
        seconds, _, fraction = given["since"].partition(".")
        least = int(seconds) * 10**9 + int(fraction.ljust(9, "0") or 0)
        handler.send_response(200)
        handler.send_header("Content-Type", "application/vnd.docker.raw-stream")
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        at = 0
        while handler.request in self._connections:
            with container.changed:
                if at == len(container.lines) and container.running:
                    container.changed.wait(0.1)
                fresh, at, running = container.lines[at:], len(container.lines), container.running
            for moment, stream, text in fresh:
                if moment >= least:
                    data = container.encoded(moment, stream, text)
                    # Pieces end anywhere.
                    for piece in (data[: len(data) // 2], data[len(data) // 2 :]):
                        handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.flush()
            if not running and not fresh:
                handler.wfile.write(b"0\r\n\r\n")
                return
