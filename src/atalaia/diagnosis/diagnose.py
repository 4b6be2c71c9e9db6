"""Asks the logs of a period what went wrong. Reads little: two queries, one line a server, addresses when
they lack.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from atalaia.client.entries import LogEntry
from atalaia.diagnosis import queries
from atalaia.diagnosis.classify import classify
from atalaia.diagnosis.groups import group
from atalaia.diagnosis.incidents import Incident, incidents
from atalaia.diagnosis.language import Language, moment, number, phrases
from atalaia.diagnosis.reader import LogReader
from atalaia.diagnosis.sources import with_hosts

# About 50 MB of entries in memory; a period with more is told to be cut.
LIMIT = 20_000


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What the PostgreSQL logs of [start, end) (ns since 1970) say.

    `read` counts the lines that were looked at, `newest` is the time of the newest line of any kind (None
    when there is none), `silent` are the asked-for servers without a single line, `notes` say what the answer
    does not cover.
    """

    start: int
    end: int
    language: Language
    servers: tuple[str, ...] | None
    read: int
    newest: int | None
    silent: tuple[str, ...]
    incidents: tuple[Incident, ...]
    notes: tuple[str, ...]

    @property
    def unusual(self) -> tuple[Incident, ...]:
        """The incidents that are neither routine nor the consequence of another."""
        return tuple(incident for incident in self.incidents if incident.role == "primary")


def diagnose(
    reader: LogReader,
    *,
    start: int,
    end: int,
    servers: tuple[str, ...] | None = None,
    language: Language = "en",
    port_of: Mapping[str, int] | None = None,
    limit: int = LIMIT,
) -> Diagnosis:
    """Incidents of `servers` (None: all) in [start, end), ns since 1970, explained in `language`.

    `port_of` gives the ports of the servers of this environment, for the commands in remedies. At most
    `limit` lines of each sort are read, the newest first; a note says so when there were more. Errors of
    `reader` pass through.
    """
    told = phrases(language)
    entries: list[LogEntry] = []
    notes = []
    asked = (("what_severe", queries.severe(servers)), ("what_log", queries.log_of_interest(servers)))
    for what, query in asked if servers != () else ():
        some = list(reader.entries(query, start=start, end=end, limit=limit + 1, newest_first=True))
        if len(some) > limit:
            some = some[:limit]
            values = {"limit": number(limit, language), "what": told[what], "when": moment(some[-1].ts)}
            notes.append(told["truncated"].format_map(values))
        entries += some
    newest, silent = _heard(reader, start, end, servers)
    if silent or newest is None:
        who = ", ".join(silent) or told["all_servers"]
        notes.append(told["silent"].format_map({"server": who}))
    # Stable: lines of one instant keep their order of arrival, which newest-first reading turned round.
    occurrences = sorted(with_hosts(reader, classify(reversed(entries))), key=lambda o: o.entry.ts)
    found = incidents(group(occurrences), occurrences, language, port_of or {})
    return Diagnosis(start, end, language, servers, len(entries), newest, silent, found, tuple(notes))


def _heard(
    reader: LogReader, start: int, end: int, servers: tuple[str, ...] | None
) -> tuple[int | None, tuple[str, ...]]:
    newest: dict[str, int] = {}
    for server in servers if servers is not None else ("",):
        query = queries.selector((server,) if server else None)
        for entry in reader.entries(query, start=start, end=end, limit=1, newest_first=True):
            newest[server] = entry.ts
    silent = tuple(server for server in servers or () if server not in newest)
    return max(newest.values(), default=None), silent
