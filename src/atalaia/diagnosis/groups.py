"""Occurrences that belong together: same server, same kind (or same template), same discriminating values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from atalaia.diagnosis.classify import Occurrence
from atalaia.diagnosis.load import Kind

# A report longer than this is read by nobody; what is beyond is counted and said.
_UNKNOWN_AT_MOST = 30


@dataclass(frozen=True, slots=True)
class Group:
    """At least one occurrence, oldest first. `merged` counts the templates when unknown ones were put
    together.
    """

    kind: Kind | None
    server: str
    fields: Mapping[str, str]
    occurrences: tuple[Occurrence, ...]
    merged: int = 0

    @property
    def times(self) -> tuple[int, ...]:
        """Times of the occurrences, ns since 1970."""
        return tuple(occurrence.entry.ts for occurrence in self.occurrences)

    def common(self) -> dict[str, str]:
        """For each placeholder the value that most of the occurrences have."""
        counters: dict[str, Counter[str]] = {}
        for occurrence in self.occurrences:
            for name, value in occurrence.values.items():
                counters.setdefault(name, Counter())[value] += 1
        return {name: counter.most_common(1)[0][0] for name, counter in counters.items()}

    def counts(self, name: str) -> Counter[str]:
        """How often each value of `name` occurs."""
        return Counter(o.values[name] for o in self.occurrences if o.values.get(name))


def group(occurrences: Iterable[Occurrence]) -> list[Group]:
    """Groups of known kinds and of unknown templates; an unknown LOG message is none (nobody asked)."""
    members: dict[tuple[str, ...], list[Occurrence]] = {}
    for occurrence in sorted(occurrences, key=lambda o: o.entry.ts):
        kind = occurrence.kind
        if kind is not None:
            key = (kind.id, occurrence.server, *(occurrence.values.get(name, "") for name in kind.by))
        elif occurrence.message.severity not in ("LOG", "INFO", "NOTICE", "DEBUG"):
            key = ("", occurrence.server, occurrence.message.severity, occurrence.template)
        else:
            continue
        members.setdefault(key, []).append(occurrence)
    groups = [_group(some) for some in members.values()]
    return [g for g in groups if g.kind] + _limited([g for g in groups if not g.kind])


def _group(occurrences: list[Occurrence]) -> Group:
    first = occurrences[0]
    names = first.kind.by if first.kind else ()
    fields = {name: first.values[name] for name in names if name in first.values}
    return Group(first.kind, first.server, fields, tuple(occurrences))


def _limited(unknown: list[Group]) -> list[Group]:
    """The most important and frequent unknown groups; the rest as one group a server."""
    order = {"PANIC": 0, "FATAL": 1, "ERROR": 2, "WARNING": 3}
    ranked = sorted(unknown, key=lambda g: (order.get(g.occurrences[0].message.severity, 4), -len(g.occurrences)))
    rest: dict[str, list[Group]] = {}
    for one in ranked[_UNKNOWN_AT_MOST:]:
        rest.setdefault(one.server, []).append(one)
    merged = [
        Group(
            None,
            server,
            {},
            tuple(sorted((o for g in some for o in g.occurrences), key=lambda o: o.entry.ts)),
            len(some),
        )
        for server, some in rest.items()
    ]
    return ranked[:_UNKNOWN_AT_MOST] + merged
