"""What a collector counts: Prometheus metrics under Promtail's names, and those of `metrics` stages."""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

_COUNTERS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "promtail_read_bytes_total": ("Bytes read.", ("path",)),
    "promtail_read_lines_total": ("Lines read.", ("path",)),
    "promtail_encoded_bytes_total": ("Bytes encoded and ready to send.", ("host",)),
    "promtail_sent_bytes_total": ("Bytes of log lines acknowledged.", ("host",)),
    "promtail_sent_entries_total": ("Entries acknowledged.", ("host",)),
    "promtail_batch_retries_total": ("Pushes that failed and are repeated.", ("host", "tenant")),
    "promtail_dropped_bytes_total": ("Bytes of log lines given up.", ("host", "tenant", "reason")),
    "promtail_dropped_entries_total": ("Entries given up.", ("host", "tenant", "reason")),
    "logentry_dropped_lines_total": ("Lines that stages dropped.", ("reason",)),
}
_GAUGES: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "promtail_file_bytes_total": ("Bytes of the file.", ("path",)),
    "promtail_files_active_total": ("Files that are read.", ()),
}


class Meters:
    """One registry. Its methods may be called from any thread; unknown names are a mistake of ours (KeyError)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._counters = {
            name: Counter(name, text, labels, registry=self.registry) for name, (text, labels) in _COUNTERS.items()
        }
        self._gauges = {
            name: Gauge(name, text, labels, registry=self.registry) for name, (text, labels) in _GAUGES.items()
        }

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        counter = self._counters[name]
        (counter.labels(**labels) if labels else counter).inc(amount)

    def set(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        gauge = self._gauges[name]
        (gauge.labels(**labels) if labels else gauge).set(value)

    def exposition(self) -> bytes:
        """Prometheus' text format."""
        return generate_latest(self.registry)
