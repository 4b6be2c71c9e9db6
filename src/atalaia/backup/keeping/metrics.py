"""What is known of backups as Prometheus metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from atalaia.backup.keeping.facts import Facts, Reason
from atalaia.backup.keeping.promise import newest_verified
from atalaia.backup.model import Backup
from atalaia.environment.units import parse_duration

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def exposition(facts: Facts, reasons: Sequence[Reason]) -> bytes:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Metrics(facts, reasons))
    return generate_latest(registry)


class _Metrics(Collector):
    def __init__(self, facts: Facts, reasons: Sequence[Reason]) -> None:
        self._facts, self._reasons = facts, reasons

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """See prometheus_client."""
        facts = self._facts
        yield _gauge("up", "1 when backups are as promised, 0 when something is red.", (), [((), not self._reasons)])
        red = Counter((reason.server, reason.kind) for reason in self._reasons)
        yield _gauge("alarms", "What is red, by server and reason.", ("server", "reason"), red.items())
        yield _gauge("service_up", "1 when the backup service runs.", (), [((), facts.service)])
        if facts.promised:
            text = "How old the newest verified backup may be."
            yield _gauge("promised_age_seconds", text, (), [((), facts.promised.total_seconds())])
        verified = [
            ((server,), _seconds(newest.started))
            for server in facts.servers
            if (newest := newest_verified(facts, server))
        ]
        text = "When the newest verified backup of a server began; it is as old as this."
        yield _gauge("last_verified_timestamp_seconds", text, ("server",), verified)
        states = Counter((b.server, b.kind, b.state.value) for b in facts.backups)
        yield _gauge("backups", "Backups in the catalogue.", ("server", "kind", "state"), states.items())
        yield from self._newest()
        yield from self._wal()
        codes = [((job.task, job.server), run.code) for job in facts.jobs if (run := facts.runs.get(job.name))]
        text = "Exit code of the last scheduled run; 0 is good."
        yield _gauge(
            "run_exit_code", text, ("task", "server"), [(key, code) for key, code in codes if code is not None]
        )
        text = "When the last scheduled run began."
        begun = [
            ((job.task, job.server), _seconds(run.started)) for job in facts.jobs if (run := facts.runs.get(job.name))
        ]
        yield _gauge("run_timestamp_seconds", text, ("task", "server"), begun)

    def _newest(self) -> Iterator[GaugeMetricFamily]:
        newest: dict[tuple[str, ...], Backup] = {(b.server, b.kind): b for b in self._facts.backups if b.usable}
        labels = ("server", "kind")
        sizes = [(key, backup.size) for key, backup in newest.items()]
        yield _gauge("size_bytes", "Stored bytes of the newest usable backup.", labels, sizes)
        raw = [(key, backup.raw_size) for key, backup in newest.items()]
        yield _gauge("raw_size_bytes", "Its bytes before compression.", labels, raw)
        took = [
            (key, (backup.finished - backup.started).total_seconds())
            for key, backup in newest.items()
            if backup.finished
        ]
        yield _gauge("duration_seconds", "How long making it took.", labels, took)
        proofs = {(b.server, b.kind): v.seconds for b in self._facts.backups for v in b.verifications if v.passed}
        text = "How long the newest restore test's restore took: the evidence of the recovery time."
        yield _gauge("restore_seconds", text, labels, proofs.items())
        total: Counter[tuple[str, ...]] = Counter()
        for backup in self._facts.backups:
            total[backup.server, backup.kind] += backup.size
        yield _gauge("stored_bytes", "Stored bytes of all backups, in one repository.", labels, total.items())

    def _wal(self) -> Iterator[GaugeMetricFamily]:
        facts = self._facts
        covered = [((server,), _seconds(seen.covered)) for server, seen in facts.wal.items() if seen.covered]
        text = "The last moment at which all of a server's WAL was archived."
        yield _gauge("wal_covered_timestamp_seconds", text, ("server",), covered)
        if promised := facts.settings.promise.wal:
            text = "How old the newest archived WAL may be."
            yield _gauge("wal_promised_age_seconds", text, (), [((), parse_duration(promised) / 1e9)])


def _gauge(
    name: str, text: str, labels: Sequence[str], values: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"atalaia_backup_{name}", text, labels=labels)
    for key, value in values:
        family.add_metric(key, float(value))
    return family


def _seconds(at: datetime) -> float:
    return at.timestamp()
