"""HTTP clients of a log store, whose credentials and certificates may be renewed while they are open."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Generator
from pathlib import Path

import httpx

from atalaia.environment.connection import Connection
from atalaia.environment.errors import InputError
from atalaia.runtime.renewed import Renewed
from atalaia.runtime.trust import client_context


def open_client(connection: Connection, timeout: httpx.Timeout) -> httpx.Client:
    """A client of the connection. Raises InputError for files that cannot be read."""
    headers = {"X-Scope-OrgID": connection.tenant} if connection.tenant else {}
    return httpx.Client(
        headers=headers,
        auth=Credentials(connection),
        transport=_Transport(connection),
        timeout=timeout,
        trust_env=False,
    )


class Credentials(httpx.Auth):
    """The Authorization header of a connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._header = Renewed((connection.token_file, connection.password_file), self._read)

    def _read(self) -> str | None:
        given = self._connection
        if given.user is not None:
            password = _secret(given.password_file) if given.password_file else given.password
            pair = f"{given.user}:{password or ''}".encode()
            return f"Basic {base64.b64encode(pair).decode()}"
        token = given.token or (_secret(given.token_file) if given.token_file else None)
        return f"Bearer {token}" if token else None

    def header(self) -> str | None:
        """Its value at this moment."""
        return self._header.get()

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """See httpx.Auth."""
        if (header := self.header()) is not None:
            request.headers["Authorization"] = header
        yield request


def _secret(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "it holds the secret that lets us in") from error


class _Transport(httpx.BaseTransport):
    """httpx's own, made again when the certificates that are trusted or shown change."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._made: list[httpx.HTTPTransport] = []
        secure = connection.base.startswith("https:")
        files = (connection.ca, connection.pinned, connection.certificate, connection.key) if secure else ()
        self._current = Renewed(files, self._secure if secure else self._plain)

    def _secure(self) -> httpx.HTTPTransport:
        # Older ones stay open until the end: another thread may wait for an answer there.
        self._made.append(httpx.HTTPTransport(verify=client_context(self._connection)))
        return self._made[-1]

    def _plain(self) -> httpx.HTTPTransport:
        self._made.append(httpx.HTTPTransport(verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)))  # trusts nobody
        return self._made[-1]

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """See httpx.BaseTransport."""
        return self._current.get().handle_request(request)

    def close(self) -> None:
        """Close connections."""
        for transport in self._made:
            transport.close()
