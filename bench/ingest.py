"""Ingestion: from files through `collect` into `serve`, and ready-made batches straight into `serve`."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc

from atalaia.environment.errors import AtalaiaError
from atalaia.store.batch import CONTENT_TYPE, encode
from bench.ask import ask
from bench.logs import TIME_ONLY, Log, batches, span
from bench.queries import total
from bench.service import Store, collecting, serving
from bench.table import Row
from bench.tools import Scale, lines

_MB_PER_SECOND, _CPU, _PEAK = 160.0, 6.0, 500.0  # targets
_BATCHES = 150  # of 4 MiB, that the store alone gets


@dataclass(frozen=True, slots=True)
class Measured:
    """One ingestion. CPU in seconds, peaks in MB; `collector` is 0 where none ran; `collected`: its own peak."""

    size: int
    lines: int
    seconds: float
    store: float
    collector: float
    peak: float
    collected: float

    @property
    def speed(self) -> float:
        """MB/s of log lines."""
        return self.size / 1e6 / self.seconds

    @property
    def note(self) -> str:
        """Speed in lines, and what it took: CPU of store + collector, memory of both."""
        speed = f"{self.lines / self.seconds / 1e3:,.0f} k lines/s in {self.seconds:.2f} s"
        return f"{speed}; CPU {self.store:.1f} + {self.collector:.1f} s; peak {self.peak:,.0f} MB"


def fill(directory: Path, folder: Path, logs: tuple[Log, ...], scale: Scale) -> list[Row]:
    """All logs into the store in `directory`; the reference log comes first and is told in full."""
    rows = []
    with serving(directory) as store:
        for log in logs:
            before = store.disk
            found = collected(store, log, folder)
            began = time.monotonic()
            store.settle()
            settled, disk = time.monotonic() - began, store.disk - before
            if log is not logs[0]:
                ratio = f"{disk / 1e6:,.0f} MB on disk, 1 : {log.size / disk:.1f}"
                rows.append(Row(f"ingest: {log.kind}, time", found.speed, "MB/s", note=f"{found.note}; {ratio}"))
                continue
            cpu = found.store + found.collector
            rows += [
                Row("ingest: regex, time, label", found.speed, "MB/s", _MB_PER_SECOND * scale.speed, note=found.note),
                Row("  CPU for it", cpu, "s", _CPU * scale.ingestion),
                Row("  peak memory, store + collector", found.peak, "MB", _PEAK),
                Row("  until it has settled", settled, "s", note="compaction and indexes, in the background"),
                Row("  bytes on disk", disk / 1e6, "MB", note=f"1 : {log.size / disk:.1f}"),
            ]
    return rows


def time_only(directory: Path, folder: Path, log: Log, scale: Scale) -> Row:
    """The reference log through the least pipeline that takes the time from the line."""
    with serving(directory) as store:
        found = collected(store, log, folder, TIME_ONLY)
    return Row("ingest: time alone", found.speed, "MB/s", _MB_PER_SECOND * scale.speed, note=found.note)


def store_alone(directory: Path, folder: Path, log: Log) -> Row:
    """The beginning of the reference log as ready-made Arrow batches, one after the other over one connection."""
    size = rows = 0
    bodies = []
    for batch in itertools.islice(batches(log, folder), _BATCHES):
        size += pc.sum(pc.binary_length(batch.column("line"))).as_py() + len(batch)
        rows += len(batch)
        bodies.append(encode(batch))
    with serving(directory) as store:
        cpu = store.process.cpu
        began = time.perf_counter()
        for body in bodies:
            answer = store.http.post(
                f"{store.base}/loki/api/v1/push", content=body, headers={"Content-Type": CONTENT_TYPE}
            )
            if answer.status_code != 204:
                raise AtalaiaError(f"a push was answered with {answer.status_code}: {answer.text[:200]}")
        seconds = time.perf_counter() - began
        found = Measured(size, rows, seconds, store.process.cpu - cpu, 0.0, store.process.peak, 0.0)
    return Row("ingest: store alone, Arrow", found.speed, "MB/s", note=found.note)


def collected(store: Store, log: Log, folder: Path, stages: str | None = None, counted: bool = True) -> Measured:
    """One log through a collector of its own: from its start until the last line is durable and was counted.

    `counted` is false where entries are not lines.
    """
    positions = folder / f"{log.job}.positions"
    config = folder / f"{log.job}.yaml"
    config.write_text(log.config(store.base, positions, stages))
    kept = Path(f"{positions}.atalaia")
    for part in ("", "-wal", "-shm"):
        Path(f"{kept}{part}").unlink(missing_ok=True)
    size, expected = log.size, lines(log.files)
    store.process.reset_peak()
    cpu = store.process.cpu
    began = time.perf_counter()
    with collecting(config) as collector:
        collector.wait(lambda: store.held(kept) >= size, 3600, "the collector delivers")
        seconds = time.perf_counter() - began
        used = (store.process.cpu - cpu, collector.cpu, store.process.peak + collector.peak, collector.peak)
    if not counted:
        return Measured(size, expected, seconds, *used)
    found = ask(store.http, store.base, total(log), span(log, folder)).total
    if found != expected:
        raise AtalaiaError(f"{found} of {expected} lines of {log.job} are stored", "this is a bug; keep the store")
    return Measured(size, expected, seconds, *used)
