"""Log entries to known kinds of message: one RE2 set looks for all patterns in one pass over a message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import re2

from atalaia.client.entries import LogEntry
from atalaia.diagnosis.load import METADATA, Kind, knowledge
from atalaia.diagnosis.message import Message, parse, template


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A classified entry. `kind` is None for a message that is not known; `values` fill the placeholders of
    texts.
    """

    entry: LogEntry
    message: Message
    kind: Kind | None
    template: str
    values: Mapping[str, str]

    @property
    def server(self) -> str:
        """The server that wrote the entry, or "" when its stream does not tell."""
        return self.entry.labels.get("server", "")

    @property
    def pid(self) -> str:
        """The process that wrote the entry, or ""."""
        return self.entry.metadata.get("pid", "")


@dataclass(frozen=True, slots=True)
class _Matcher:
    kinds: tuple[Kind, ...]
    patterns: tuple[Any, ...]
    together: Any


@cache
def _matcher() -> _Matcher:
    kinds = knowledge()
    together = re2.Set.SearchSet()
    for kind in kinds:
        together.Add(kind.regex)
    together.Compile()
    return _Matcher(kinds, tuple(re2.compile(kind.regex) for kind in kinds), together)


def classify(entries: Iterable[LogEntry]) -> list[Occurrence]:
    """One occurrence an entry, in the same order. Never raises, whatever the lines hold."""
    matcher = _matcher()
    return [_classify(entry, matcher) for entry in entries]


def _classify(entry: LogEntry, matcher: _Matcher) -> Occurrence:
    message = parse(entry.line, entry.labels.get("severity", ""))
    values = {name: entry.metadata[name] for name in METADATA if entry.metadata.get(name)}
    values["server"] = entry.labels.get("server", "")
    sqlstate = entry.metadata.get("sqlstate", "")
    for index in sorted(matcher.together.Match(message.text)):
        kind = matcher.kinds[index]
        if message.severity and message.severity not in kind.severities:
            continue
        # Lines from stderr tell no SQLSTATE; there the pattern alone decides.
        if kind.sqlstate and sqlstate not in kind.sqlstate and (sqlstate or kind.needs_sqlstate):
            continue
        match = matcher.patterns[index].search(message.text)
        groups = match.groupdict() if match else {}
        values |= {name: value for name, value in groups.items() if value}
        return Occurrence(entry, message, kind, "", values)
    return Occurrence(entry, message, None, template(message.text), values)
