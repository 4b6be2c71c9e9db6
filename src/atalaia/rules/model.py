"""Rules and their groups, as Prometheus' files describe them. Times are nanoseconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from atalaia.logql.matrix import Labels
from atalaia.logql.tree import Metric

MINUTE = 60 * 10**9
RuleKey = tuple[bool, str, Labels, int]
"""Whether a rule records, its name, its labels, and how many like it come before it in its group."""
INTERVAL = MINUTE
"""How often a group is evaluated that says nothing of it."""


@dataclass(frozen=True, slots=True)
class Rule:
    """An alerting rule, or with `records` a recording one. `expr` is LogQL as written, `tree` what it means.

    An alert fires once its series was there for `hold`, and goes on for `keep` when the series is gone.
    """

    name: str
    expr: str
    tree: Metric
    records: bool = False
    hold: int = 0
    keep: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Group:
    """Rules that are evaluated together, one after the other, at the same moment: `offset` before now.

    `limit`: how many alerts or series a rule may have; 0 for any. `labels` are those of all its rules.
    """

    name: str
    rules: tuple[Rule, ...]
    interval: int = INTERVAL
    limit: int = 0
    offset: int = 0
    labels: Mapping[str, str] = field(default_factory=dict)

    def keys(self) -> list[RuleKey]:
        """What stays the same of each rule when it is changed, so that its alerts stay, too."""
        seen = Counter[tuple[bool, str, Labels]]()
        keys = []
        for rule in self.rules:
            key = (rule.records, rule.name, tuple(sorted(rule.labels.items())))
            keys.append((*key, seen[key]))
            seen[key] += 1
        return keys


@dataclass(frozen=True, slots=True)
class Placed:
    """A group with whose it is: the tenant, and the namespace, which is the file's name or was given over the API."""

    tenant: str
    namespace: str
    group: Group
    file: Path | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        """Which group it is."""
        return (self.tenant, self.namespace, self.group.name)
