"""The three logs of a run, how Promtail would collect them, and their entries as the collector makes them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from atalaia.collector import pipeline
from atalaia.collector.lines import valid_utf8
from atalaia.collector.plan import Job, Plan
from atalaia.collector.promtail import load as promtail
from bench import postgresql, services
from bench.columns import write

_BLOCK = 4 << 20  # bytes that are read at once
_NS = 1_000_000_000
_CONFIG = """\
clients: [{{url: "{base}/loki/api/v1/push"}}]
positions: {{filename: "{positions}"}}
scrape_configs:
- job_name: {job}
  static_configs:
{targets}
  pipeline_stages:
{stages}
"""
_TARGET = '  - labels: {{job: {job}, __path__: "{path}"{server}}}'
_WHOLE = r"""
  - regex: {expression: '^(?P<time>\S+ \S+ \S+) \[(?P<pid>\d+)\] (?P<user>\w+)@(?P<db>\w+) (?P<level>\w+):'}
  - timestamp: {source: time, format: "2006-01-02 15:04:05FRACTION MST"}
  - labels: {level: }"""
# Promtail's timestamp stage reads an extracted value, so this is the least that a promtail.yaml can say.
TIME_ONLY = r"""
  - regex: {expression: '^(?P<time>\S+ \S+ \S+)'}
  - timestamp: {source: time, format: "2006-01-02 15:04:05FRACTION MST"}"""
_JSON = """
  - json: {expressions: {ts: }}
  - timestamp: {source: ts, format: RFC3339Nano}"""
_LOGFMT = r"""
  - regex: {expression: '^ts=(?P<time>\S+)'}
  - timestamp: {source: time, format: RFC3339Nano}"""


@dataclass(frozen=True, slots=True)
class Log:
    """One job: its files, by server where it has several, and its pipeline stages."""

    job: str
    kind: str
    files: tuple[Path, ...]
    stages: str
    servers: bool = True

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.stat().st_size for file in self.files)

    def config(self, base: str, positions: Path, stages: str | None = None) -> str:
        """A promtail.yaml that collects this log to `base`, through other stages if they are given."""
        targets = [
            _TARGET.format(job=self.job, path=file, server=f", server: {file.stem}" if self.servers else "")
            for file in self.files
        ]
        with self.files[0].open("rb") as file:
            fraction = ".000" if b"." in file.readline()[:24] else ""
        return _CONFIG.format(
            base=base, positions=positions, job=self.job, targets="\n".join(targets),
            stages=(stages or self.stages).strip("\n").replace("FRACTION", fraction),
        )  # fmt: skip

    def plan(self, folder: Path) -> Plan:
        """What the collector would do with this log; needs a place for the configuration."""
        path = folder / f"{self.job}.plan.yaml"
        path.write_text(self.config("http://127.0.0.1", folder / "none"))
        return promtail.load(path)


@dataclass(frozen=True, slots=True)
class Span:
    """The times of the first and the last entry, in ns."""

    first: int
    last: int

    def aligned(self, step: int) -> tuple[int, int]:
        """(begin, end) in ns, multiples of `step` seconds, so that all entries are in (begin, end)."""
        unit = step * _NS
        return (self.first - 1) // unit * unit, (self.last // unit + 1) * unit


def make(folder: Path, lines: int, given: Path | None) -> tuple[Log, ...]:
    """The logs below `folder`, written where they are not there yet; `given` takes the reference log's place."""
    folder.mkdir(parents=True, exist_ok=True)
    reference = given or folder / "reference.log"
    if not reference.exists():
        write(reference, postgresql.log_lines(lines))
    each = max(1, lines // 4 // services.SERVERS)
    found = [Log("reference", "PostgreSQL", (reference.resolve(),), _WHOLE, servers=False)]
    for job, kind, generate, stages in (
        ("web", "JSON", services.json_lines, _JSON),
        ("worker", "logfmt", services.logfmt_lines, _LOGFMT),
    ):
        files = tuple(folder / f"{job}_{server}.log" for server in range(1, services.SERVERS + 1))
        for server, file in enumerate(files, 1):
            if not file.exists():
                write(file, generate(each, server))
        found.append(Log(job, kind, files, stages))
    return tuple(found)


def batches(log: Log, folder: Path) -> Iterator[pa.RecordBatch]:
    """The log's entries in the store's transit schema, as its pipeline makes them; bounded by a block."""
    for job, file, labels in _files(log, folder):
        with file.open("rb") as source:
            rest = b""
            while data := source.read(_BLOCK):
                whole, _, rest = (rest + data).rpartition(b"\n")
                if whole:
                    yield _entries(job, whole + b"\n", labels)


def span(log: Log, folder: Path) -> Span:
    """The times of the log's first and last entry; its files are in order of time."""
    ts = []
    for job, file, labels in _files(log, folder):
        with file.open("rb") as source:
            first = source.readline()
            source.seek(max(0, file.stat().st_size - _BLOCK))
            last = source.read().rstrip(b"\n").rpartition(b"\n")[2] + b"\n"
        ts += _entries(job, first + last, labels).column("ts").to_pylist()
    return Span(min(ts), max(ts))


def _files(log: Log, folder: Path) -> Iterator[tuple[Job, Path, dict[str, str]]]:
    job = log.plan(folder).jobs[0]
    for target, file in zip(job.targets, log.files, strict=True):
        yield job, file, job.labels_of(target, str(file))


def _entries(job: Job, block: bytes, labels: dict[str, str]) -> pa.RecordBatch:
    taken = pipeline.run(job, valid_utf8(block)[0], time.time_ns(), labels, pipeline.ALL)
    return taken.entries.record_batch()
