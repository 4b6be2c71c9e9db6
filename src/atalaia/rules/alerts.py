"""How alerts live: inactive -> pending -> firing -> resolved. Pure functions of what was found at which moment (ns).

As Prometheus: https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from atalaia.logql.matrix import Labels
from atalaia.rules.model import MINUTE, Rule

RESEND = MINUTE
"""How often a firing alert is sent again."""


class State(StrEnum):
    """Of an alert; one that is not there is inactive."""

    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"
    INACTIVE = "inactive"


@dataclass(frozen=True, slots=True)
class Seen:
    """A series that the expression of an alerting rule gave, under the labels of its alert."""

    value: float
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that is pending or firing, or just ended. Moments in ns.

    `active`: since when its series is there. `fired`: since when it fires. `gone`: since when it fires without its
    series, which `keep_firing_for` allows. `sent`: when the receivers were told last. `ended`: when it was over.
    """

    labels: Labels
    annotations: Mapping[str, str]
    value: float
    active: int
    fired: int | None = None
    gone: int | None = None
    sent: int | None = None
    ended: int | None = None

    @property
    def state(self) -> State:
        """Which state it is in."""
        if self.ended is not None:
            return State.INACTIVE if self.fired is None else State.RESOLVED
        return State.PENDING if self.fired is None else State.FIRING


Alerts = Mapping[Labels, Alert]


def advance(
    alerts: Alerts, found: Mapping[Labels, Seen], now: int, rule: Rule
) -> tuple[dict[Labels, Alert], list[Alert]]:
    """The alerts after an evaluation, and those that came into another state, among them the ones that ended."""
    after: dict[Labels, Alert] = {}
    changed = []
    for labels, seen in found.items():
        before = alerts.get(labels) or Alert(labels, seen.annotations, seen.value, now)
        alert = replace(before, annotations=seen.annotations, value=seen.value, gone=None)
        if alert.fired is None and now - alert.active >= rule.hold:
            alert = replace(alert, fired=now)
        after[labels] = alert
        if labels not in alerts or alert.state != before.state:
            changed.append(alert)
    for labels, before in alerts.items():
        if labels in found:
            continue
        since = now if before.gone is None else before.gone
        if before.fired is not None and now - since < rule.keep:
            after[labels] = replace(before, gone=since)
        else:
            changed.append(replace(before, ended=now))
    return after, changed


def due(alert: Alert, now: int) -> bool:
    """Whether receivers are to be told of a firing alert now."""
    return alert.state == State.FIRING and (alert.sent is None or now - alert.sent >= RESEND)
