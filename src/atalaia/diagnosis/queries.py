"""The LogQL that diagnosis asks, such that a store can answer it from labels and few distinct templates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from atalaia.diagnosis.load import knowledge

# A regular expression of more alternatives is slower to answer than a second query.
_PIDS_A_QUERY = 200


def selector(servers: tuple[str, ...] | None, *matchers: str) -> str:
    """The stream selector of PostgreSQL logs, of `servers` only unless None."""
    parts = ['job="postgres"']
    if servers is not None:
        parts.append(f"server={_string(servers[0])}" if len(servers) == 1 else f"server=~{_one_of(servers)}")
    return "{" + ", ".join([*parts, *matchers]) + "}"


def severe(servers: tuple[str, ...] | None) -> str:
    """Everything that PostgreSQL itself calls worse than LOG."""
    return selector(servers, 'severity=~"ERROR|FATAL|PANIC|WARNING"')


def log_of_interest(servers: tuple[str, ...] | None) -> str:
    """The LOG messages that the knowledge has an entry for."""
    # dict: one pattern may serve several kinds.
    finds = dict.fromkeys(kind.find for kind in knowledge() if "LOG" in kind.severities)
    return f"{selector(servers, _LOG)} |~ `{'|'.join(finds)}`"


def connections(server: str, pids: Iterable[str]) -> Iterator[str]:
    """`connection received` lines of processes of one server; several queries for many processes."""
    numbers = sorted({pid for pid in pids if pid.isdigit()}, key=int)
    for begin in range(0, len(numbers), _PIDS_A_QUERY):
        some = "|".join(numbers[begin : begin + _PIDS_A_QUERY])
        yield f'{selector((server,), _LOG)} |= `connection received: host=` | pid=~"{some}"'


_LOG = 'severity="LOG"'


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _one_of(names: tuple[str, ...]) -> str:
    special = str.maketrans({character: f"\\{character}" for character in r"\.+*?()|[]{}^$"})
    return _string("|".join(name.translate(special) for name in names))
