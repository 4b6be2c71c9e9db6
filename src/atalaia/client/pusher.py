"""Pushes to a running store of Atalaia, with sources, sent again while it cannot take them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx
import pyarrow as pa

from atalaia.environment.connection import Connection
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.runtime.http import open_client
from atalaia.store.batch import CONTENT_TYPE, Source, encode

_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)  # seconds before the next try


@dataclass(frozen=True, slots=True)
class Pushed:
    """The store's answer: entries `refused` and why; or, when its source stands elsewhere, its `position`."""

    refused: int = 0
    message: str | None = None
    position: int | None = None


class Pusher:
    """One store."""

    def __init__(self, to: str | Connection, sleep: Callable[[float], object] = time.sleep) -> None:
        """`to`: a connection, or an address without a path. `sleep`: waits so many seconds before the next try."""
        connection = Connection(to) if isinstance(to, str) else to
        self.base = connection.base.rstrip("/")
        self._sleep = sleep
        self._http = open_client(connection, httpx.Timeout(120.0, connect=5.0))

    def position(self, source: str) -> int:
        """Up to where the store has a source; 0 when it does not know it."""
        return self.positions([source]).get(source, 0)

    def positions(self, sources: Sequence[str]) -> dict[str, int]:
        """Up to where the store has each of these sources, for those that it knows. Raises AtalaiaError, InputError."""
        answer = self._post("/atalaia/v1/positions", json={"ids": list(sources)})
        if answer.status_code in (401, 403):
            raise InputError(f"{self.base} does not let you: {answer.text.strip()[:1000]}")
        if answer.status_code != 200:
            raise InputError(
                f"{self.base} is not a store of Atalaia: it answered {answer.status_code}",
                "check the address; for another Loki, send the exported lines with its own tools",
            )
        return {name: int(position) for name, position in answer.json()["positions"].items()}

    def push(self, entries: pa.Table, tenant: str, source: Source, *also: Source) -> Pushed:
        """Deliver entries (batch.SCHEMA); returns once they are acknowledged. Raises AtalaiaError, InputError.

        `also`: further sources that the same push moves.
        """
        headers = {"Content-Type": CONTENT_TYPE, "X-Scope-OrgID": tenant}
        answer = self._post("/loki/api/v1/push", content=encode(entries, (source, *also)), headers=headers)
        if answer.status_code == 204:
            return Pushed()
        if answer.status_code == 409:
            return Pushed(position=int(answer.json()["positions"][source.id]))
        if answer.status_code == 200:
            body = answer.json()
            return Pushed(len(entries) - int(body["stored"]), str(body["refused"]))
        raise InputError(f"the store does not take rows {source.start} to {source.end}: {answer.text.strip()[:1000]}")

    def _post(self, path: str, **request: object) -> httpx.Response:
        """The answer; sent again after a pause while the store cannot be reached or is too busy."""
        for pause in (*_PAUSES, None):
            try:
                answer = self._http.post(f"{self.base}{path}", **request)  # type: ignore[arg-type]  # as httpx takes it
                if answer.status_code != 429 and answer.status_code < 500:
                    return answer
                why = f"{answer.status_code} {answer.text.strip()[:200]}"
            except httpx.HTTPError as error:
                why = str(error) or type(error).__name__
            if pause is not None:
                self._sleep(pause)
        raise AtalaiaError(
            f"the store at {self.base} does not take pushes: {why}",
            "run the same command again once it runs; it goes on where it was",
        )

    def close(self) -> None:
        """Close connections."""
        self._http.close()
