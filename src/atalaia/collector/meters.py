"""What a collector counts: Prometheus metrics under Promtail's names, and those of `metrics` stages."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from atalaia.collector.families import Families

_COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "promtail_read_bytes_total": ("Bytes read.", ("path",)),
    "promtail_read_lines_total": ("Lines read.", ("path",)),
    "promtail_encoded_bytes_total": ("Bytes encoded and ready to send.", ("host",)),
    "promtail_sent_bytes_total": ("Bytes of log lines acknowledged.", ("host",)),
    "promtail_sent_entries_total": ("Entries acknowledged.", ("host",)),
    "promtail_batch_retries_total": ("Pushes that failed and are repeated.", ("host", "tenant")),
    "promtail_dropped_bytes_total": ("Bytes of log lines given up.", ("host", "tenant", "reason")),
    "promtail_dropped_entries_total": ("Entries given up.", ("host", "tenant", "reason")),
    "promtail_syslog_target_entries_total": ("Syslog messages taken.", ()),
    "promtail_syslog_target_parsing_errors_total": ("Syslog messages that could not be parsed.", ()),
    "promtail_syslog_empty_messages_total": ("Syslog messages without a text.", ()),
    "promtail_gelf_target_entries_total": ("GELF messages taken.", ()),
    "promtail_gelf_target_parsing_errors_total": ("GELF messages that could not be read.", ()),
    "promtail_journal_target_lines_total": ("Journal entries taken.", ()),
    "promtail_journal_target_parsing_errors_total": ("Journal entries that were passed over.", ("error",)),
    "promtail_docker_target_entries_total": ("Lines of containers taken.", ()),
    "promtail_docker_target_parsing_errors_total": ("Lines of containers without a time.", ()),
    "promtail_push_target_entries_total": ("Entries of pushes taken.", ()),
    "promtail_listener_dropped_messages_total": ("Datagrams that nobody could wait for.", ("job", "reason")),
    "logentry_dropped_lines_total": ("Lines that stages dropped.", ("reason",)),
    "logentry_dropped_lines_by_label_total": ("Lines that limit stages dropped.", ("label_name", "label_value")),
}
_GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "promtail_file_bytes_total": ("Bytes of the file.", ("path",)),
    "promtail_files_active_total": ("Files that are read.", ()),
    "promtail_targets_active_total": ("Targets that are read.", ()),
    "promtail_file_lag_bytes": ("Bytes of the file that are not acknowledged.", ("path",)),
    "promtail_file_lag_seconds": ("Seconds since the oldest of them was seen.", ("path",)),
    "promtail_stream_lag_seconds": ("Age of the newest entry that was acknowledged last.", ("host",)),
}


class Meters:
    """One registry. Its methods may be called from any thread; unknown names are a mistake of ours (KeyError).

    `families` has the metrics of `metrics` stages.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.families = Families([*_COUNTERS, *_GAUGES])
        self.registry.register(self.families)
        self._counters = {
            name: Counter(name, text, labels, registry=self.registry) for name, (text, labels) in _COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(name, text, labels, registry=self.registry) for name, (text, labels) in _GAUGES.items()
        }

        self._took = Histogram(
            "promtail_request_duration_seconds",
            "Seconds of a push.",
            ("host", "status_code"),
            registry=self.registry,
        )

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(amount)

    def forget(self, name: str) -> None:
        """Begin anew with all series of a counter."""
        self._counters[name].clear()

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def took(self, seconds: float, host: str, status: int) -> None:
        """A push was answered."""
        self._took.labels(host=host, status_code=str(status)).observe(seconds)

    def lagged(self, base: str, newest: int) -> None:
        """An output at an address has taken entries up to this time (ns)."""
        seconds = max(0.0, time.time() - newest / 1e9)
        self.set("promtail_stream_lag_seconds", seconds, host=urlsplit(base).netloc.rpartition("@")[2])

    def gone(self, path: str) -> None:
        """A file is read no longer: nothing is told of it any more, as Promtail does."""
        for metrics, known in ((self._counters, _COUNTERS), (self._gauges, _GAUGES)):
            for name, (_, labels) in known.items():
                if labels == ("path",):
                    with contextlib.suppress(KeyError):
                        metrics[name].remove(path)

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
