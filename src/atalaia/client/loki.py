"""Queries to any server that speaks the Loki HTTP API. Satisfies diagnosis.LogReader."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import httpx
import orjson

from atalaia.client.entries import LogEntry, entries_of
from atalaia.environment.connection import Connection
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.runtime.http import open_client

_PAGE = 5000
_DELETE = "/loki/api/v1/delete"
_LARGE = "answer_size"  # the limit that Atalaia names then
Labels = tuple[tuple[str, str], ...]
_REMEDY = "give --token-file, or --user and --password-file; for an environment's store: be who ran `atalaia up`"
_CATEGORISED = {"X-Loki-Response-Encoding-Flags": "categorize-labels"}


class LogsUnreachable(AtalaiaError):
    """The log store does not answer."""


class NotAllowed(AtalaiaError):
    """The server does not know who asks, or does not let them."""


class NotOffered(AtalaiaError):
    """The server does not know this address: another kind of log store, or something else."""


class TooLarge(AtalaiaError):
    """The server does not give so much in one answer; it may give less."""


class LokiClient:
    """One server; `page` entries are asked for at once."""

    def __init__(self, to: str | Connection, timeout: float = 120.0, page: int = _PAGE) -> None:
        """`to`: a connection, or an address without a path. Raises InputError for files that cannot be read."""
        self.connection = Connection(to) if isinstance(to, str) else to
        self.base = self.connection.base.rstrip("/")
        self._page = page
        self.on_stats: Callable[[Mapping[str, Any]], object] = lambda _: None
        """Told the statistics of each answer that has some."""
        self._http = open_client(self.connection, httpx.Timeout(timeout, connect=5.0))

    def send(
        self, method: str, path: str, parameters: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """A good answer. Raises InputError for what the server refuses, LogsUnreachable, NotAllowed, NotOffered…"""
        try:
            answer = self._http.request(
                method, f"{self.base}{path}", params=dict(parameters), headers=dict(headers or {})
            )
        except httpx.HTTPError as error:
            raise LogsUnreachable(
                f"the log store at {self.base} does not answer: {error}",
                "`atalaia status` shows whether it runs; `atalaia up` starts it",
            ) from error
        if answer.status_code == 400:
            raise InputError(answer.text.strip())
        if answer.status_code in (401, 403):
            raise NotAllowed(
                f"{self.base} does not let you: {answer.text.strip()[:1000] or answer.status_code}", _REMEDY
            )
        if answer.status_code == 404:
            raise NotOffered(f"{self.base} has no {path}", "Atalaia's own log store has it: check [logs] url, or --url")
        if answer.status_code == 422 and _LARGE in answer.text:
            raise TooLarge(answer.text.strip()[:1000])
        if not answer.is_success:
            raise AtalaiaError(f"the log store answered {answer.status_code}: {answer.text.strip()[:1000]}")
        return answer

    def get(self, path: str, parameters: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Any:
        """The `data` of an answer. Raises what `send` raises."""
        return self._json(path, parameters, headers, "data")

    def bare(self, path: str, parameters: Mapping[str, Any]) -> Any:
        """An answer that Loki gives without `status` and `data` around it. Raises what `send` raises."""
        return self._json(path, parameters, None, None)

    def damaged(self) -> list[str]:
        """The segments that Atalaia's own store leaves out of its answers. Raises what `send` raises."""
        return list(self._json("/atalaia/v1/store", {}, None, "damaged"))

    def delete(self, query: str, start: int, end: int, tenant: str) -> None:
        """Delete a tenant's entries of [start, end) ns that a selector and line filters find. Raises as `send` does."""
        # With so many digits a time is in nanoseconds.
        parameters = {"query": query, "start": f"{start:020d}", "end": f"{end:020d}"}
        self.send("POST", _DELETE, parameters, {"X-Scope-OrgID": tenant})

    def deletions(self, tenant: str) -> list[dict[str, Any]]:
        """A tenant's deletions, as Loki lists them. Raises what `send` raises."""
        return list(self._json(_DELETE, {}, {"X-Scope-OrgID": tenant}, None))

    def _json(
        self, path: str, parameters: Mapping[str, Any], headers: Mapping[str, str] | None, member: str | None
    ) -> Any:
        answer = self.send("GET", path, parameters, headers)
        try:
            whole = orjson.loads(answer.content)
            return whole if member is None else whole[member]
        except (ValueError, KeyError, TypeError) as error:
            raise AtalaiaError(
                f"{self.base} does not answer as a Loki does", "check the address in [logs] url"
            ) from error

    def query_range(self, query: str, **parameters: Any) -> Any:
        """Loki's data of a range query."""
        return self._seen(self.get("/loki/api/v1/query_range", {"query": query, **parameters}, _CATEGORISED))

    def query(self, query: str, **parameters: Any) -> Any:
        """Loki's data of an instant query."""
        return self._seen(self.get("/loki/api/v1/query", {"query": query, **parameters}))

    def _seen(self, data: Any) -> Any:
        if isinstance(data, dict) and data.get("stats"):
            self.on_stats(data["stats"])
        return data

    def page(self, query: str, *, start: int, end: int, limit: int, newest_first: bool, **more: Any) -> list[LogEntry]:
        """One answer's entries of [start, end) ns, in order of time. `more`: parameters for Loki."""
        direction = "backward" if newest_first else "forward"
        data = self.query_range(query, start=start, end=end, limit=limit, direction=direction, **more)
        if data["resultType"] != "streams":
            raise InputError(f"{query!r} gives numbers, not lines")
        found = entries_of(data["result"])
        # Within a stream the server's order is that of arrival, which a stable sort keeps.
        found.sort(key=lambda e: e.ts, reverse=newest_first)
        return found

    def entries(
        self, query: str, *, start: int, end: int, limit: int | None = None, newest_first: bool = False
    ) -> Iterator[LogEntry]:
        """Entries of [start, end) ns in order of time, however many there are, page by page."""
        given = 0
        most = self._page if limit is None else min(self._page, limit)
        size = most
        known: Counter[Labels] = Counter()
        edge: int | None = None
        while limit is None or given < limit:
            try:
                page = self.page(query, start=start, end=end, limit=size, newest_first=newest_first)
            except TooLarge:
                if size // 8 <= known.total():
                    raise
                size = most = size // 8
                continue
            # A page begins at the last page's last time again. What was given of that time is passed over, stream by
            # stream: the order within a stream is the server's, that between streams of one moment is not.
            seen: Counter[Labels] = Counter()
            for entry in page:
                if entry.ts == edge:
                    labels = tuple(sorted(entry.labels.items()))
                    seen[labels] += 1
                    if seen[labels] <= known[labels]:
                        continue
                if limit is not None and given == limit:
                    return
                yield entry
                given += 1
            if len(page) < size:
                return
            edge = page[-1].ts
            known = Counter(tuple(sorted(entry.labels.items())) for entry in page if entry.ts == edge)
            start, end = (start, edge + 1) if newest_first else (edge, end)
            # Only a page larger than what is known of that time gets past it.
            size = most if known.total() < most else known.total() + most

    def close(self) -> None:
        """Close connections."""
        self._http.close()
