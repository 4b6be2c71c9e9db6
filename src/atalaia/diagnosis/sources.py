"""Where a connection came from, when the message itself does not tell: `connection received` of the same
process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from atalaia.client.entries import LogEntry
from atalaia.diagnosis import queries
from atalaia.diagnosis.classify import Occurrence
from atalaia.diagnosis.reader import LogReader

# authentication_timeout is 60 s by default; a startup packet cannot take longer. Twice that, for slow
# logging.
_BEFORE = 120 * 1_000_000_000
_RECEIVED = re.compile(r"connection received: host=(\S+)(?: port=(\d+))?")
# Enough to tell a pattern and a host; more would only make the query dear.
_AT_MOST = 1_000
BY_PID = "host_by_pid"


@dataclass(frozen=True, slots=True)
class Origin:
    """Client address and port as `connection received` gave them at `ts`; `port` is "" for a Unix socket."""

    ts: int
    host: str
    port: str


def with_hosts(reader: LogReader, occurrences: list[Occurrence]) -> list[Occurrence]:
    """The same occurrences; those that need a remote host and have none get it from the log, where it can be
    found.

    Nothing is asked when all have one. The newest 1,000 are looked up; the value `host_by_pid` marks those
    found so.
    """
    wanted = [o for o in occurrences if _lacks_host(o)][-_AT_MOST:]
    if not wanted:
        return occurrences
    origins: dict[tuple[str, str], list[Origin]] = {}
    for server in sorted({o.server for o in wanted}):
        mine = [o for o in wanted if o.server == server]
        start, end = min(o.entry.ts for o in mine) - _BEFORE, max(o.entry.ts for o in mine) + 1
        for query in queries.connections(server, (o.pid for o in mine)):
            for entry in reader.entries(query, start=start, end=end, limit=4 * _AT_MOST, newest_first=True):
                if (origin := _origin(entry)) is not None:
                    origins.setdefault((server, entry.metadata.get("pid", "")), []).append(origin)
    wanted_ids = {id(o) for o in wanted}
    return [_with_host(o, origins) if id(o) in wanted_ids else o for o in occurrences]


def _lacks_host(occurrence: Occurrence) -> bool:
    kind = occurrence.kind
    return bool(kind and "remote_host" in kind.by and "remote_host" not in occurrence.values and occurrence.pid)


def _origin(entry: LogEntry) -> Origin | None:
    found = _RECEIVED.search(entry.line)
    return Origin(entry.ts, found[1], found[2] or "") if found else None


def _with_host(occurrence: Occurrence, origins: Mapping[tuple[str, str], Iterable[Origin]]) -> Occurrence:
    ts = occurrence.entry.ts
    before = [
        o for o in origins.get((occurrence.server, occurrence.pid), ()) if ts - _BEFORE <= o.ts <= ts
    ]  # a PID may have been used before, by another client
    if not before:
        return occurrence
    origin = max(before, key=lambda o: o.ts)
    values = {**occurrence.values, "remote_host": origin.host, "remote_port": origin.port, BY_PID: "yes"}
    return replace(occurrence, values={name: value for name, value in values.items() if value})
