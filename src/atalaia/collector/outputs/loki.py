"""Any Loki: at least once, with the same times when a batch is sent again, so that Loki knows equal entries."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.collector.meters import Meters
from atalaia.collector.outputs.kind import is_ours, unreachable
from atalaia.collector.outputs.lokijson import loki_json
from atalaia.collector.outputs.protobuf import encode_push
from atalaia.collector.outputs.sink import Answer, Delivery, Rows, Unreachable
from atalaia.collector.plan import Output
from atalaia.store.batch import Source

log = logging.getLogger("atalaia.collector")
_KIND_EVERY = 60.0  # seconds between looks at which kind of server it is
# Promtail's reasons.
_REFUSED, _RATE_LIMITED, _TOO_LONG = "ingester_error", "rate_limited", "line_too_long"


@dataclass(frozen=True, slots=True)
class Part:
    """Entries of one push, encoded as `json` or protobuf."""

    tenant: str | None
    table: pa.Table
    json: bool
    body: bytes


class LokiSink:
    """Encodes in the format that the server takes; prepares on one thread, delivers on another."""

    plans = True

    def __init__(self, output: Output, http: httpx.Client, meters: Meters) -> None:
        self.output = output
        self.http = http
        self.meters = meters
        self.host = urlsplit(output.url).netloc.rpartition("@")[2]
        self.linger = output.batch_wait
        self.json = output.format == "json"
        self._kind_at = time.monotonic() + _KIND_EVERY
        self._in_doubt = False

    def positions(self, ids: Sequence[str]) -> dict[str, int]:
        """A Loki knows nothing of sources."""
        return {}

    def prepare(self, batch: pa.Table, sources: Sequence[Source], rows: Rows) -> Delivery:
        """See Sink."""
        tenants = [(self.output.tenant, batch)] if rows.tenants is None else self._by_tenant(batch, rows.tenants)
        found = [
            self.part(tenant, table.slice(start, end - start))
            for tenant, table in tenants
            for start, end in parts(table, self.output.batch_size)
        ]
        return _Push(self, found)

    def _by_tenant(self, batch: pa.Table, tenants: pa.Array) -> list[tuple[str | None, pa.Table]]:
        named = pc.fill_null(tenants, self.output.tenant or "")
        return [(name or None, batch.filter(pc.equal(named, name))) for name in pc.unique(named).to_pylist()]

    def part(self, tenant: str | None, table: pa.Table) -> Part:
        """The entries as a push, in the format that the server takes as far as that is known now."""
        json = self.json
        body = loki_json(table) if json else encode_push(table)
        self.meters.count("promtail_encoded_bytes_total", len(body), host=self.host)
        return Part(tenant, table, json, body)

    def post(self, part: Part) -> httpx.Response:
        """Send a part. Raises Unreachable."""
        kind = "application/json" if part.json else "application/x-protobuf"
        headers = {"Content-Type": kind} | ({"X-Scope-OrgID": part.tenant} if part.tenant else {})
        try:
            return self.http.post(self.output.url, content=part.body, headers=headers)
        except httpx.HTTPError as error:
            raise Unreachable(f"{self.output.base}: {str(error) or type(error).__name__}") from error

    def became_ours(self) -> bool:
        """Whether the server is a store of Atalaia's by now; looked at now and then, and after failures."""
        if time.monotonic() < self._kind_at:
            return False
        try:
            ours = is_ours(self.output, self.http)
        except Unreachable:
            if self._in_doubt:
                raise
            ours = False  # pushes work
        self._in_doubt = False
        self._kind_at = time.monotonic() + _KIND_EVERY
        return ours

    def failed(self, tenant: str | None) -> None:
        """A push failed: another kind of server may come back in its place."""
        self._kind_at, self._in_doubt = 0.0, True
        self.meters.count("promtail_batch_retries_total", host=self.host, tenant=tenant or "")

    def close(self) -> None:
        """See Sink."""
        self.http.close()


class _Push:
    """The delivery of one batch: `left` are the parts that are not taken yet, in order."""

    def __init__(self, sink: LokiSink, left: list[Part]) -> None:
        self._sink = sink
        self._left = left
        self._failures = 0
        self._refused: list[str] = []

    def __call__(self) -> Answer:
        while self._left:
            try:
                if self._sink.became_ours():
                    return Answer(changed=True)
                self._send(self._left[0])
            except Unreachable as error:
                self._sink.failed(self._left[0].tenant)
                self._failures += 1
                most = self._sink.output.max_retries
                if most is None or self._failures < most:
                    raise
                self._drop(self._left.pop(0), _REFUSED, f"given up after {most} times (max_retries): {error}")
            self._failures = 0
        return Answer(refused="; ".join(self._refused[:3]) or None)

    def _send(self, part: Part) -> None:
        """Send the first part, and take it off the list unless it must be sent again. Raises Unreachable."""
        answer = self._sink.post(part)
        status = answer.status_code
        self._sink.meters.took(answer.elapsed.total_seconds(), self._sink.host, status)
        said = f"{status} {answer.text[:500].strip()}".strip()
        if status < 300:
            self._left.pop(0)
            counted = {"host": self._sink.host}
            self._sink.meters.count("promtail_sent_bytes_total", len(part.body), **counted)
            self._sink.meters.count("promtail_sent_entries_total", len(part.table), **counted)
        elif status == 413 and len(part.table) > 1:
            self._left[:1] = self._halves(part)
        elif status == 415 and not part.json:
            # Other batches may be encoded already, each of them as it says.
            if not self._sink.json:
                log.info("event=json_instead output=%s reason=%r", self._sink.output.base, said)
            self._sink.json = True
            self._left[0] = self._sink.part(part.tenant, part.table)
        elif status in (400, 413, 422) or status == 415:
            # For its content: it would be refused for ever.
            self._drop(self._left.pop(0), _TOO_LONG if status == 413 else _REFUSED, said)
        elif status == 429 and self._sink.output.drop_rate_limited:
            self._drop(self._left.pop(0), _RATE_LIMITED, said)
        else:
            raise unreachable(self._sink.output.url, answer)

    def _halves(self, part: Part) -> list[Part]:
        middle = len(part.table) // 2
        halves = part.table.slice(0, middle), part.table.slice(middle)
        return [self._sink.part(part.tenant, half) for half in halves]

    def _drop(self, part: Part, reason: str, why: str) -> None:
        """Count and tell what is not sent again. Of a push that is refused, a Loki may have taken some entries."""
        self._refused.append(f"{len(part.table)} entries: {why}")
        counted = {"host": self._sink.host, "tenant": part.tenant or "", "reason": reason}
        size = int(pc.sum(pc.binary_length(part.table.column("line"))).as_py() or 0)
        self._sink.meters.count("promtail_dropped_entries_total", len(part.table), **counted)
        self._sink.meters.count("promtail_dropped_bytes_total", size, **counted)


def parts(batch: pa.Table, most: int) -> list[tuple[int, int]]:
    """Ranges of rows whose lines and metadata have at most `most` bytes together (or are one entry)."""
    if not len(batch):
        return []
    sizes = pc.binary_length(batch.column("line")).to_numpy().astype(np.int64)
    sizes = np.cumsum(sizes + _metadata_size(batch.column("metadata").combine_chunks()))
    found, start = [], 0
    while start < len(sizes):
        before = int(sizes[start - 1]) if start else 0
        end = max(start + 1, int(np.searchsorted(sizes, before + most, "right")))
        found.append((start, end))
        start = end
    return found


def _metadata_size(metadata: pa.MapArray) -> np.ndarray:
    """The bytes of each entry's metadata: int64[N]."""
    offsets = metadata.offsets.to_numpy()
    pairs = np.zeros(len(metadata.keys) + 1, np.int64)
    if len(metadata.keys):
        size = pc.add(pc.binary_length(metadata.keys), pc.binary_length(metadata.items))
        np.cumsum(size.to_numpy(zero_copy_only=False), out=pairs[1:])
    found: np.ndarray = np.diff(pairs[offsets])
    return found
