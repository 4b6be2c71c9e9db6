"""One stored log line as its readers see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A log line with its time (`ts`, ns since 1970), stream labels and structured metadata."""

    ts: int
    labels: Mapping[str, str]
    line: str
    metadata: Mapping[str, str]
