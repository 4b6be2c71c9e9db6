"""The supervisor's control socket: one JSON request a line, answered by JSON lines. Source of truth for `status`."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAME = "control.sock"
HOLD = "hold "  # and a service's name: it stays stopped as long as the connection lasts


@contextlib.contextmanager
def _short(folder: Path) -> Iterator[str]:
    """A path to `folder` that fits in a socket address (108 bytes, unix(7)), however deep the folder lies."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{NAME}"
    finally:
        os.close(descriptor)


def listen(folder: Path) -> socket.socket:
    """A listening socket in `folder`, replacing one that a dead supervisor left."""
    (folder / NAME).unlink(missing_ok=True)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with _short(folder) as path:
        server.bind(path)
    (folder / NAME).chmod(0o600)
    server.listen(16)
    return server


class Client:
    """A connection to the supervisor."""

    def __init__(self, folder: Path, timeout: float | None = None) -> None:
        """Raises OSError when no supervisor listens."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout)
        try:
            with _short(folder) as path:
                self._socket.connect(path)
        except OSError:
            self._socket.close()
            raise
        self._file = self._socket.makefile("rwb")

    def ask(self, operation: str) -> Iterator[dict[str, Any]]:
        """Send a request; the answers until the supervisor closes the connection."""
        self._file.write(json.dumps({"op": operation}).encode() + b"\n")
        self._file.flush()
        for line in self._file:
            yield json.loads(line)

    def close(self) -> None:
        """Close the connection."""
        with contextlib.suppress(OSError):
            self._file.close()
        self._socket.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def reply(connection: socket.socket, data: dict[str, Any]) -> bool:
    """Send one answer; False when the client is gone."""
    try:
        connection.sendall(json.dumps(data).encode() + b"\n")
    except OSError:
        return False
    return True


def gone(connection: socket.socket) -> bool:
    """Whether the client has closed its end, or said more than it should."""
    try:
        return bool(select.select([connection], [], [], 0)[0])
    except (OSError, ValueError):
        return True


def request(connection: socket.socket) -> str:
    """The operation that a client asks for; empty when it makes no sense."""
    data = b""
    try:
        while b"\n" not in data and len(data) < 65_536:
            more = connection.recv(4096)
            if not more:
                break
            data += more
        return str(json.loads(data)["op"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
