"""Sinks: where batches go. Atalaia's store takes Arrow and counts bytes; any other Loki takes JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.plan import Output
from atalaia.environment.connection import Connection
from atalaia.runtime.http import open_client
from atalaia.store.batch import CONTENT_TYPE, Source, encode

_LOKI_BYTES = 1 << 20  # of lines in one push to a Loki, as Promtail's batchsize


@dataclass(frozen=True, slots=True)
class Answer:
    """What a sink said: taken; or not, because its sources stand elsewhere (`conflict`); `refused` is a message."""

    conflict: Mapping[str, int] | None = None
    refused: str | None = None


class Unreachable(Exception):
    """The sink cannot take the batch now; the same batch is to be sent again."""


Delivery: TypeAlias = Callable[[], Answer]


class Sink(Protocol):
    """Takes one batch at a time, in order."""

    def prepare(self, batch: pa.Table, sources: Sequence[Source]) -> Delivery:
        """Encode, which needs no sink yet; what is returned delivers, and returns once that is acknowledged.

        It raises Unreachable, and may be called again then.
        """

    def positions(self, ids: Sequence[str]) -> dict[str, int]:
        """Up to where the sink has each source, for those that it knows. Raises Unreachable."""

    def close(self) -> None:
        """Close connections."""


def client(output: Output) -> httpx.Client:
    """An HTTP client with the output's credentials and headers. Raises InputError for files that cannot be read."""
    user, password = output.basic_auth or (None, None)
    given = Connection(output.base, output.tenant, user, password, token=output.bearer_token)
    made = open_client(output.trust or given, httpx.Timeout(output.timeout, read=max(60.0, output.timeout)))
    made.headers.update(output.headers)
    return made


def connect(output: Output) -> Sink:
    """The sink that fits the server at the output's address. Raises Unreachable while there is no server."""
    http = client(output)
    try:
        answer = http.post(f"{output.base}/atalaia/v1/positions", json={"ids": []})
        # A gateway before a Loki may answer 403 for what it does not know; a store of ours says what is missing.
        denied = answer.status_code == 401 or (answer.status_code == 403 and "www-authenticate" in answer.headers)
        if answer.status_code >= 500 or denied:
            http.close()
            raise Unreachable(f"{output.base} answered {answer.status_code}: {answer.text[:200].strip()}")
    except httpx.HTTPError as error:
        http.close()
        raise Unreachable(f"{output.base}: {error}") from error
    return AtalaiaSink(output, http) if answer.status_code == 200 else LokiSink(output, http)


class AtalaiaSink:
    """Atalaia's own store: Arrow with sources; a batch sent twice is recognised."""

    def __init__(self, output: Output, http: httpx.Client) -> None:
        self._output = output
        self._http = http

    def positions(self, ids: Sequence[str]) -> dict[str, int]:
        """See Sink."""
        try:
            answer = self._http.post(f"{self._output.base}/atalaia/v1/positions", json={"ids": list(ids)})
            answer.raise_for_status()
        except httpx.HTTPError as error:
            raise Unreachable(str(error)) from error
        found: dict[str, int] = answer.json()["positions"]
        return found

    def prepare(self, batch: pa.Table, sources: Sequence[Source]) -> Delivery:
        """See Sink."""
        return partial(self._push, encode(batch, sources))

    def _push(self, body: bytes) -> Answer:
        try:
            answer = self._http.post(self._output.url, content=body, headers={"Content-Type": CONTENT_TYPE})
        except httpx.HTTPError as error:
            raise Unreachable(str(error) or type(error).__name__) from error
        if answer.status_code == 409:
            return Answer(conflict=answer.json()["positions"])
        if answer.status_code == 204:
            return Answer()
        if answer.status_code == 200:
            return Answer(refused=answer.json().get("refused"))
        # Also a 400: the store did not count the bytes, so the position must not move past them.
        raise Unreachable(f"{self._output.url} answered {answer.status_code}: {answer.text[:200].strip()}")

    def close(self) -> None:
        """See Sink."""
        self._http.close()


class LokiSink:
    """Any Loki, over JSON: at least once, with the same timestamps when a batch is sent again."""

    def __init__(self, output: Output, http: httpx.Client) -> None:
        self._output = output
        self._http = http
        self._begun: pa.Table | None = None
        self._rows = 0  # of the batch `_begun` that Loki has taken already
        self._refused: str | None = None

    def positions(self, ids: Sequence[str]) -> dict[str, int]:
        """A Loki knows nothing of sources."""
        return {}

    def prepare(self, batch: pa.Table, sources: Sequence[Source]) -> Delivery:
        """See Sink."""
        return partial(self._push, batch)

    def _push(self, batch: pa.Table) -> Answer:
        """In parts of about `_LOKI_BYTES`: Loki's own limits would refuse a whole batch for ever.

        What Loki refuses for its content (400) is not sent again: it would be refused for ever, too.
        """
        if self._begun is not batch:
            self._begun, self._rows, self._refused = batch, 0, None
        for start, end in parts(batch, _LOKI_BYTES):
            if start >= self._rows:
                self._refused = self._post(batch.slice(start, end - start)) or self._refused
                self._rows = end
        self._begun = None
        return Answer(refused=self._refused)

    def _post(self, part: pa.Table) -> str | None:
        try:
            answer = self._http.post(
                self._output.url, content=loki_json(part), headers={"Content-Type": "application/json"}
            )
        except httpx.HTTPError as error:
            raise Unreachable(str(error) or type(error).__name__) from error
        if answer.status_code < 300:
            return None
        if answer.status_code in (400, 413, 422):
            return f"{answer.status_code} {answer.text[:500]}".strip()
        raise Unreachable(f"{self._output.url} answered {answer.status_code}: {answer.text[:200].strip()}")

    def close(self) -> None:
        """See Sink."""
        self._http.close()


def parts(batch: pa.Table, most: int) -> list[tuple[int, int]]:
    """Ranges of rows whose lines have at most `most` bytes together (or are one line)."""
    sizes = np.cumsum(pc.binary_length(batch.column("line")).to_numpy(), dtype=np.int64)
    found, start = [], 0
    while start < len(sizes):
        before = int(sizes[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(sizes, before + most, "right")))
        found.append((start, end))
        start = end
    return found


def loki_json(batch: pa.Table) -> bytes:
    """Loki's JSON push of a batch. Python walks the rows here: only a foreign Loki needs it."""
    streams: dict[str, list[list[object]]] = {}
    for row in batch.to_pylist():
        value: list[object] = [str(row["ts"]), row["line"]]
        if row["metadata"]:
            value.append(dict(row["metadata"]))
        streams.setdefault(row["labels"], []).append(value)
    return orjson.dumps(
        {"streams": [{"stream": orjson.loads(labels), "values": values} for labels, values in streams.items()]}
    )
