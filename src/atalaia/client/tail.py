"""Loki's live tail over a websocket, as a client."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from urllib.parse import urlencode

import orjson
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.sync.client import connect

from atalaia.client.entries import LogEntry, entries_of
from atalaia.client.loki import LogsUnreachable, NotAllowed, NotOffered
from atalaia.environment.connection import Connection
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.runtime.http import Credentials
from atalaia.runtime.trust import client_context

_PATH = "/loki/api/v1/tail"
_MOST_FRAME = 256 << 20  # bytes
_MOST_FRAMES = 4  # that wait to be taken; then the server is no longer read
_WAIT = 10.0  # seconds for a handshake and a goodbye


class TailLost(AtalaiaError):
    """The connection ended, or the server left entries out: what came meanwhile is to be asked for."""


@dataclass(frozen=True, slots=True)
class Followed:
    """What is followed: from `start` (ns), `limit` entries of what is stored; `delay` in seconds, for order."""

    query: str
    start: int
    limit: int
    delay: int = 0


class Tail:
    """An open tail; a context manager."""

    def __init__(self, to: Connection, followed: Followed) -> None:
        """Raises InputError for what the server refuses, NotAllowed, NotOffered without tails, LogsUnreachable."""
        parameters = {
            "query": followed.query,
            "start": f"{followed.start:020d}",  # with so many digits a time is in nanoseconds
            "limit": followed.limit,
            "delay_for": followed.delay,
        }
        base = to.base.rstrip("/")
        headers = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}
        if to.tenant:
            headers["X-Scope-OrgID"] = to.tenant
        if (authorization := Credentials(to).header()) is not None:
            headers["Authorization"] = authorization
        self._closing = ExitStack()
        try:
            self._socket = self._closing.enter_context(
                connect(
                    f"ws{base.removeprefix('http')}{_PATH}?{urlencode(parameters)}",
                    additional_headers=headers,
                    ssl=client_context(to) if base.startswith("https:") else None,
                    compression=None,
                    open_timeout=_WAIT,
                    close_timeout=_WAIT,
                    max_size=_MOST_FRAME,
                    max_queue=_MOST_FRAMES,
                    proxy=None,
                )
            )
        except InvalidStatus as error:
            body = (error.response.body or b"").decode(errors="replace").strip()[:1000]
            raise _refused(base, error.response.status_code, body) from error
        except InvalidHandshake as error:
            raise NotOffered(f"{base} does not speak websockets: {error}") from error
        except (OSError, TimeoutError, EOFError) as error:
            raise LogsUnreachable(
                f"the log store at {base} does not answer: {error}",
                "`atalaia status` shows whether it runs; `atalaia up` starts it",
            ) from error

    def __enter__(self) -> Tail:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def __iter__(self) -> Iterator[list[LogEntry]]:
        """The entries as they come, some at a time. Raises TailLost when that is over."""
        try:
            for message in self._socket:
                frame = orjson.loads(message)
                found = entries_of(frame.get("streams") or ())
                if found:
                    yield sorted(found, key=lambda entry: entry.ts)
                if frame.get("dropped_entries"):
                    raise TailLost("the server left entries out, since they came faster than they were read")
        except ConnectionClosed as error:
            raise TailLost(f"the connection was lost: {error}") from error
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise AtalaiaError("the server does not tail as a Loki does", "check the address") from error
        raise TailLost("the server ended the tail")


def _refused(base: str, status: int, body: str) -> AtalaiaError:
    if status in (401, 403):
        return NotAllowed(f"{base} does not let you: {body or status}", "give --token-file, or --user")
    # A proxy that takes the upgrade away makes the server say that it is no websocket.
    if status == 400 and "websocket" not in body and "not built" not in body:
        return InputError(body or f"{base} refuses to tail this query")
    if status in (429, 502, 503, 504):
        return LogsUnreachable(f"{base} answered {status}: {body}")
    return NotOffered(f"{base} has no {_PATH}: it answered {status}")
