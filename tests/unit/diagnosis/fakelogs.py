"""A LogReader over a list, which understands exactly the LogQL that diagnosis is allowed to ask."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from atalaia.client.entries import LogEntry
from atalaia.diagnosis.diagnose import Diagnosis, diagnose

SECOND = 1_000_000_000
NOON = 1_723_118_400 * SECOND  # 2024-08-08 12:00:00 UTC, the seed's day
DAY = 86_400 * SECOND
LENGTH = "LOG:  invalid length of startup packet"

_SELECTOR = re.compile(r"\{([^}]*)\}")
_MATCHER = re.compile(r'(\w+)(=~|=)"((?:[^"\\]|\\.)*)"')
_FILTER = re.compile(r"\|([=~]) `([^`]*)`")
_LABEL_FILTER = re.compile(r'\| (\w+)=~"([^"]*)"')


def entry(line: str, at: float = 0, *, server: str = "postgres_a", severity: str = "", **metadata: str) -> LogEntry:
    """An entry `at` seconds after noon; its severity is the line's own unless given."""
    labels = {"job": "postgres", "server": server, "severity": severity or line.split(":")[0]}
    return LogEntry(NOON + round(at * SECOND), labels, line, metadata)


@dataclass
class FakeLogs:
    """Answers from `stored`; `asked` remembers the queries."""

    stored: list[LogEntry]
    asked: list[str] = field(default_factory=list)

    def entries(
        self, query: str, *, start: int, end: int, limit: int | None = None, newest_first: bool = False
    ) -> Iterator[LogEntry]:
        self.asked.append(query)
        found = [e for e in self.stored if start <= e.ts < end and _matches(e, query)]
        found.sort(key=lambda e: e.ts, reverse=newest_first)
        yield from found[:limit]


def _matches(entry: LogEntry, query: str) -> bool:
    selector = _SELECTOR.match(query)
    assert selector, query
    rest = query[selector.end() :]
    understood = "".join(m[0] for p in (_FILTER, _LABEL_FILTER) for m in p.finditer(rest))
    assert len(understood) == len(rest.replace(" ", "")) + understood.count(" "), rest
    for name, operator, value in _MATCHER.findall(selector[1]):
        pattern = value if operator == "=~" else re.escape(value)
        if not re.fullmatch(pattern.replace("\\\\", "\\"), entry.labels.get(name, "")):
            return False
    for operator, text in _FILTER.findall(rest):
        if operator == "=" and text not in entry.line:
            return False
        if operator == "~" and not re.search(text, entry.line):
            return False
    return all(re.fullmatch(p, entry.metadata.get(n, "")) for n, p in _LABEL_FILTER.findall(rest))


def bad_start(at: float, host: str = "127.0.0.1", port: int = 40000, server: str = "postgres_a") -> LogEntry:
    """The seed's error, as jsonlog tells it."""
    metadata = {"sqlstate": "08P01", "pid": "97", "remote_host": host, "remote_port": str(port)}
    return entry(LENGTH, at, server=server, **metadata)


def told(*stored: LogEntry, language: Any = "en", **more: Any) -> tuple[Diagnosis, FakeLogs]:
    """The diagnosis of `stored`, two days around noon, and the reader that was asked."""
    logs = FakeLogs(list(stored))
    period = {"start": NOON - DAY, "end": NOON + DAY}
    return diagnose(logs, **period, language=language, port_of={"postgres_a": 5432}, **more), logs
