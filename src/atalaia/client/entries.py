"""One stored log line as its readers see it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class LogEntry:
    """A log line with its time (`ts`, ns since 1970), stream labels and structured metadata.

    `metadata` holds what the query's parsers found as well, which is also in `parsed` alone.
    """

    ts: int
    labels: Mapping[str, str]
    line: str
    metadata: Mapping[str, str]
    parsed: Mapping[str, str] = field(default_factory=dict)


def entries_of(streams: Iterable[Mapping[str, Any]]) -> list[LogEntry]:
    """The entries of Loki's streams, with labels kept apart or not, in the order of the answer."""
    found = []
    for stream in streams:
        labels = stream["stream"]
        for value in stream["values"]:
            extra = value[2] if len(value) > 2 else {}
            parsed = extra.get("parsed", {})
            metadata = {**extra.get("structuredMetadata", {}), **parsed}
            found.append(LogEntry(int(value[0]), labels, value[1], metadata, parsed))
    return found
