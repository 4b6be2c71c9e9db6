"""Docker's Engine API over a Unix socket or TCP: the few questions that a collector has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import httpx
import orjson

_PATIENCE = 30.0  # seconds for an answer; a log that is followed may be silent for ever


class EngineError(Exception):
    """Docker cannot be asked, or says no; the message says why."""


class Engine:
    """One Docker host: `unix:///var/run/docker.sock`, `tcp://HOST:PORT` or `http://HOST:PORT`."""

    def __init__(self, host: str) -> None:
        self.host = host
        if host.startswith("unix://"):
            transport = httpx.AsyncHTTPTransport(uds=host.removeprefix("unix://"), limits=_LIMITS)
            base = "http://docker"
        else:
            transport = httpx.AsyncHTTPTransport(limits=_LIMITS)
            base = host.replace("tcp://", "http://", 1)
        self._client = httpx.AsyncClient(transport=transport, base_url=base, timeout=_PATIENCE, trust_env=False)

    async def containers(self, filters: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """All containers that the filters leave, running or not."""
        found: list[dict[str, Any]] = await self._get(
            "/containers/json", {"all": "1", "filters": orjson.dumps(dict(filters)).decode()}
        )
        return found

    async def networks(self) -> list[dict[str, Any]]:
        """All networks."""
        found: list[dict[str, Any]] = await self._get("/networks", {})
        return found

    async def has_terminal(self, container: str) -> bool:
        """Whether its log has no frames."""
        found = await self._get(f"/containers/{container}/json", {})
        return bool((found.get("Config") or {}).get("Tty"))

    async def log(self, container: str, since: str | None) -> AsyncIterator[bytes]:
        """Its log from `since` (seconds) on, as long as it runs. Raises EngineError."""
        asked = {"follow": "1", "stdout": "1", "stderr": "1", "timestamps": "1", "since": since or "0"}
        timeout = httpx.Timeout(_PATIENCE, read=None)
        try:
            request = self._client.stream("GET", f"/containers/{container}/logs", params=asked, timeout=timeout)
            async with request as answer:
                if answer.status_code != 200:
                    raise EngineError(_why(answer.status_code, await answer.aread()))
                async for piece in answer.aiter_raw():
                    yield piece
        except (httpx.HTTPError, OSError) as error:
            raise EngineError(str(error) or type(error).__name__) from error

    async def _get(self, path: str, parameters: dict[str, str]) -> Any:
        try:
            answer = await self._client.get(path, params=parameters)
        except (httpx.HTTPError, OSError) as error:
            raise EngineError(f"{self.host}: {str(error) or type(error).__name__}") from error
        if answer.status_code != 200:
            raise EngineError(_why(answer.status_code, answer.content))
        try:
            return orjson.loads(answer.content)
        except orjson.JSONDecodeError as error:
            raise EngineError(f"{self.host}{path} does not answer in JSON: is that Docker?") from error

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()


_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=4)


def _why(status: int, body: bytes) -> str:
    try:
        return f"{status}: {orjson.loads(body)['message']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return f"{status}: {body[:200].decode(errors='replace')}"
