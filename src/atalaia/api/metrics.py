"""What the server counts for Prometheus. Names are Loki's where they mean the same, `atalaia_…` otherwise."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc
from starlette.requests import Request
from starlette.responses import Response

from atalaia import __version__
from atalaia.query.scheduler import Scheduler
from atalaia.runtime import vitals
from atalaia.runtime.measures import Counter, Family, Histogram, Sample
from atalaia.store.batch import Refused
from atalaia.store.store import Store

_Handler = Callable[[Request], Awaitable[Response]]
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0)


class Metrics:
    """One server's counters. `sources` are asked at each scrape, for what is known only then."""

    def __init__(self, store: Store, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self.sources: list[Callable[[], Iterable[Family]]] = [vitals.families, lambda: _of_store(store)]
        self._requests = Histogram(
            "loki_request_duration_seconds",
            "Time in seconds spent serving HTTP requests.",
            _SECONDS,
            ("method", "route", "status_code", "ws"),
        )
        self._running = Counter("loki_inflight_requests", "Requests being served.", ("method", "route"), gauge=True)
        self._lines = Counter("loki_distributor_lines_received_total", "Entries received.", ("tenant",))
        self._bytes = Counter(
            "loki_distributor_bytes_received_total",
            "Bytes of entries received, structured metadata included.",
            ("tenant",),
        )
        self._metadata = Counter(
            "loki_distributor_structured_metadata_bytes_received_total",
            "Bytes of entries' structured metadata received.",
            ("tenant",),
        )
        self._discarded = Counter(
            "loki_discarded_samples_total", "Entries refused since they broke a limit.", ("reason", "tenant")
        )

    def timed(self, path: str, handler: _Handler) -> _Handler:
        """The handler of a route, its requests counted and measured."""
        route = path.strip("/").replace("{", "").replace("}", "").replace(":path", "").replace("/", "_")

        async def handled(request: Request) -> Response:
            begun = time.perf_counter()
            status = 500
            self._running.add(1, request.method, route)
            try:
                answer = await handler(request)
                status = answer.status_code
                return answer
            finally:
                self._running.add(-1, request.method, route)
                self._requests.observe(time.perf_counter() - begun, request.method, route, str(status), "false")

        return handled

    def received(self, tenant: str, table: pa.Table) -> None:
        """Count the entries of a push."""
        metadata = sum(_metadata_bytes(chunk) for chunk in table.column("metadata").chunks)
        lines = pc.sum(pc.binary_length(table.column("line"))).as_py() or 0
        self._lines.add(len(table), tenant)
        self._bytes.add(lines + metadata, tenant)
        if metadata:
            self._metadata.add(metadata, tenant)

    def refused(self, tenant: str, refused: Refused) -> None:
        """Count the entries of a push that broke a limit."""
        for reason, count in refused.reasons.items():
            self._discarded.add(count, reason, tenant)

    def queries(self) -> list[Family]:
        """The queries that run and wait. To be asked in the event loop, where they change."""
        running, waiting = [], []
        for name, queue in self._scheduler.queues.items():
            running.append(Sample(queue.running, (("queue", name),)))
            waiting.append(Sample(queue.waiting, (("queue", name),)))
        return [
            Family("atalaia_queries_running", "gauge", "Queries that have a place.", running),
            Family("atalaia_queries_waiting", "gauge", "Queries that wait for a place.", waiting),
        ]

    def families(self) -> Iterable[Family]:
        """Everything, as of now."""
        build = Sample(1, (("version", __version__),))
        yield Family("atalaia_build_info", "gauge", "The version that runs.", [build])
        for counted in (
            self._requests, self._running, self._lines, self._bytes, self._metadata, self._discarded,
        ):  # fmt: skip
            yield counted.family()
        for source in self.sources:
            yield from source()


def _metadata_bytes(chunk: pa.MapArray) -> int:
    if not len(chunk):
        return 0
    first, last = chunk.offsets[0].as_py(), chunk.offsets[len(chunk)].as_py()
    parts = (texts.slice(first, last - first) for texts in (chunk.keys, chunk.items))
    return sum(pc.sum(pc.binary_length(part)).as_py() or 0 for part in parts)


def _of_store(store: Store) -> Iterable[Family]:
    state = store.state()
    for name, text, value in (
        ("entries", "Entries stored.", state.rows),
        ("line_bytes", "Bytes of the lines in segments.", state.line_bytes),
        ("segment_bytes", "Bytes of segments and their indexes.", state.bytes),
        ("streams", "Streams known.", state.streams),
        ("memory_entries", "Entries that are in no segment yet.", state.rows_in_memory),
        ("wal_bytes", "Bytes of the write-ahead log.", state.wal_bytes),
        ("segments_to_compact", "Segments that were not compacted yet.", state.segments_to_compact),
        ("segments_damaged", "Segments that are not read since they are damaged.", len(state.damaged)),
        ("settled", "1 when nothing is left to be compacted or removed.", int(state.settled)),
        ("ready", "1 when pushes are taken.", int(store.trouble() is None)),
    ):
        yield Family(f"atalaia_store_{name}", "gauge", text, [Sample(value)])
    yield Family("atalaia_store_segments", "gauge", "Segments.", [Sample(state.segments)])
    yield store.syncs.family()
