"""What there is to measure of rules. Names are those of Loki's ruler where they mean the same, else `atalaia_…`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from atalaia.rules.outbox import Outbox
from atalaia.rules.running import View
from atalaia.runtime.measures import Family, Sample

_GROUP = "loki_prometheus_rule_group"
_QUEUE = "loki_prometheus_notifications"


def families(views: Sequence[View], outboxes: Sequence[Outbox[object]], problems: int) -> list[Family]:
    """The groups, their alerts, the receivers, and how many rule files cannot be read."""
    groups = [(view, (("rule_group", "{}/{};{}".format(*view.placed.key)),)) for view in views]
    known = [one for view in views for one in view.known]
    states = Counter(alert.state.value for one in known for alert in one.alerts.values())
    receivers = [(box, (("receiver", box.name),)) for box in outboxes]
    return [
        Family(f"{_GROUP}_rules", "gauge", "Rules of a group.",
               [Sample(len(view.known), labels) for view, labels in groups]),
        Family(f"{_GROUP}_last_duration_seconds", "gauge", "How long the last evaluation of a group took.",
               [Sample(view.took, labels) for view, labels in groups]),
        Family(f"{_GROUP}_last_evaluation_timestamp_seconds", "gauge", "The moment of a group's last evaluation.",
               [Sample(view.moment / 1e9, labels) for view, labels in groups]),
        Family(f"{_GROUP}_iterations_missed_total", "counter", "Moments at which a group was not evaluated.",
               [Sample(view.missed, labels) for view, labels in groups]),
        Family("atalaia_rules_failing", "gauge", "Rules whose last evaluation failed.",
               [Sample(sum(one.error is not None for one in known))]),
        Family("atalaia_rule_files_unreadable", "gauge", "Rule files that have mistakes.", [Sample(problems)]),
        Family("atalaia_alerts", "gauge", "Alerts by state.",
               [Sample(states[state], (("state", state),)) for state in ("pending", "firing")]),
        Family(f"{_QUEUE}_queue_length", "gauge", "What waits for a receiver.",
               [Sample(box.waiting, labels) for box, labels in receivers]),
        Family(f"{_QUEUE}_dropped_total", "counter", "What a receiver never got.",
               [Sample(box.lost, labels) for box, labels in receivers]),
        Family("atalaia_receiver_up", "gauge", "Whether a receiver took what it was sent last.",
               [Sample(int(box.error is None), labels) for box, labels in receivers]),
    ]  # fmt: skip
