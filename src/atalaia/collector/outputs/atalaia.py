"""Atalaia's own store: exactly once, since it counts the bytes of each source.

Rows of another tenant than the output's own are pushed as a source of their own, `ID@TENANT`, before the batch itself:
whatever ends us in between, each source tells up to where its rows are stored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.meters import Meters
from atalaia.collector.outputs.kind import is_ours, unreachable
from atalaia.collector.outputs.sink import Answer, Delivery, Rows, Unreachable
from atalaia.collector.outputs.splitting import Piece, split
from atalaia.collector.plan import Output
from atalaia.store.batch import CONTENT_TYPE, Source, encode

_READ = 60.0  # seconds in which a store answers, at least: it may sync a slow disk
_LARGEST = 64 << 20  # bytes of a push, unpacked; the store takes four times that
_NOT_OURS = (400, 404, 405, 415, 422)  # what another server may say to a push in Arrow


@dataclass(frozen=True, slots=True)
class _Foreign:
    """A piece's rows of another tenant; which of them are sent depends on where the store stands."""

    tenant: str
    piece: Piece
    rows: np.ndarray

    def ids(self) -> list[str]:
        return [f"{source.id}@{self.tenant}" for source in self.piece.sources]


@dataclass(frozen=True, slots=True)
class _Own:
    """A piece without the rows of other tenants, encoded."""

    body: bytes
    rows: int


class AtalaiaSink:
    """Prepares on one thread, delivers on another."""

    linger = 0.0

    def __init__(self, output: Output, http: httpx.Client, meters: Meters) -> None:
        self._output = output
        self._http = http
        self._meters = meters
        self._host = urlsplit(output.url).netloc.rpartition("@")[2]
        self._timeout = httpx.Timeout(output.timeout, read=max(_READ, output.timeout))
        self._stands: dict[str, int | None] = {}  # of the sources of other tenants

    @property
    def plans(self) -> bool:
        """Not needed: the store knows the bytes."""
        return False

    def positions(self, ids: Sequence[str]) -> dict[str, int]:
        """See Sink."""
        return self._positions(ids, None)

    def _positions(self, ids: Sequence[str], tenant: str | None) -> dict[str, int]:
        url = f"{self._output.base}/atalaia/v1/positions"
        try:
            answer = self._http.post(url, json={"ids": list(ids)}, headers=_scope(tenant), timeout=self._timeout)
        except httpx.HTTPError as error:
            raise Unreachable(str(error) or type(error).__name__) from error
        if answer.status_code != 200:
            raise unreachable(url, answer)
        found: dict[str, int] = answer.json()["positions"]
        return found

    def prepare(self, batch: pa.Table, sources: Sequence[Source], rows: Rows) -> Delivery:
        """See Sink."""
        steps: list[_Foreign | _Own] = []
        for piece in split(Piece(batch, tuple(sources), rows), _LARGEST):
            own, tenants = piece.table, piece.rows.tenants
            if tenants is not None and tenants.null_count < len(tenants):
                names = [name for name in pc.unique(tenants).to_pylist() if name is not None]
                where = tenants.to_numpy(zero_copy_only=False)
                steps += [_Foreign(name, piece, where == name) for name in names]
                own = own.filter(pc.is_null(tenants))
            steps.append(_Own(encode(own, piece.sources), len(own)))
            self._meters.count("promtail_encoded_bytes_total", own.nbytes, host=self._host)
        return _Push(self, steps)

    def push_own(self, step: _Own) -> Answer:
        """Push the rows of the output's own tenant, and move the sources. Raises Unreachable."""
        return self._push(step.body, None, step.rows)

    def push_foreign(self, step: _Foreign) -> Answer:
        """Push what another tenant's sources do not have yet. Raises Unreachable."""
        ids = step.ids()
        if unknown := [key for key in ids if key not in self._stands]:
            self._stands |= dict.fromkeys(unknown) | self._positions(unknown, step.tenant)
        missing, sources, begin = step.rows.copy(), [], 0
        for key, source, origin in zip(ids, step.piece.sources, step.piece.rows.origins, strict=True):
            there, rows = self._stands[key], slice(begin, begin + len(origin))
            begin = rows.stop
            if there is not None and there > source.start:
                missing[rows] &= origin.behind(there)
            if missing[rows].any():
                sources.append(Source(key, source.start if there is None else there, source.end))
        if not sources:
            return Answer()
        body = encode(step.piece.table.filter(pa.array(missing)), sources)
        answer = self._push(body, step.tenant, int(missing.sum()))
        self._stands |= {source.id: source.end for source in sources} if answer.conflict is None else answer.conflict
        return answer

    def _push(self, body: bytes, tenant: str | None, rows: int) -> Answer:
        headers = {"Content-Type": CONTENT_TYPE, **_scope(tenant)}
        try:
            answer = self._http.post(self._output.url, content=body, headers=headers, timeout=self._timeout)
        except httpx.HTTPError as error:
            self._retried(tenant)
            raise Unreachable(f"{self._output.base}: {str(error) or type(error).__name__}") from error
        status = answer.status_code
        self._meters.took(answer.elapsed.total_seconds(), self._host, status)
        if status == 409:
            return Answer(conflict=answer.json()["positions"])
        if status == 204 or (status == 200 and answer.headers.get("content-type") == "application/json"):
            told = answer.json() if status == 200 else {}
            stored = int(told.get("stored", rows))
            self._meters.count("promtail_sent_bytes_total", len(body), host=self._host)
            self._meters.count("promtail_sent_entries_total", stored, host=self._host)
            if stored < rows:
                given = {"host": self._host, "tenant": tenant or self._output.tenant or "", "reason": "ingester_error"}
                self._meters.count("promtail_dropped_entries_total", rows - stored, **given)
            return Answer(refused=told.get("refused"))
        self._retried(tenant)
        if status in _NOT_OURS and not is_ours(self._output, self._http):
            return Answer(changed=True)
        # Also a 400: the store did not count the bytes, so the position must not move past them.
        raise unreachable(self._output.url, answer)

    def _retried(self, tenant: str | None) -> None:
        self._meters.count("promtail_batch_retries_total", host=self._host, tenant=tenant or "")

    def close(self) -> None:
        """See Sink."""
        self._http.close()


class _Push:
    """The delivery of one batch: `left` are the steps that are not acknowledged yet, in order."""

    def __init__(self, sink: AtalaiaSink, left: list[_Foreign | _Own]) -> None:
        self._sink = sink
        self._left = left
        self._refused: list[str] = []

    def __call__(self) -> Answer:
        while self._left:
            step = self._left[0]
            own = isinstance(step, _Own)
            answer = self._sink.push_own(step) if isinstance(step, _Own) else self._sink.push_foreign(step)
            if answer.changed or (own and answer.conflict is not None):
                return answer
            if answer.conflict is not None:
                continue  # where that tenant's sources stand is known now
            if answer.refused:
                self._refused.append(answer.refused)
            self._left.pop(0)
        return Answer(refused="; ".join(self._refused[:3]) or None)


def _scope(tenant: str | None) -> Mapping[str, str]:
    return {"X-Scope-OrgID": tenant} if tenant else {}
