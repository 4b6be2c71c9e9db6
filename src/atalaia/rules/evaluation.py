"""One rule at one moment: what its expression gives becomes alerts, or recorded samples."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.logql.errors import LogQLError
from atalaia.logql.matrix import Labels, Matrix, label_key
from atalaia.logql.parse import parse
from atalaia.logql.tree import LogQuery, Metric
from atalaia.rules.alerts import Alert, Alerts, Seen, advance
from atalaia.rules.model import Group, Rule
from atalaia.rules.templates import Surroundings, expanded

log = logging.getLogger("atalaia.rules")
NAME = "__name__"
Vector = list[tuple[Labels, float]]
Ask = Callable[[Metric], Vector]
"""Answers a metric query at the moment of the evaluation."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of a rule since its last evaluation at `moment` ns (0: none yet), which took `took` s.

    `samples` are those of a recording rule, as of the last evaluation that was good. `error` is that of the last one.
    """

    alerts: Alerts = field(default_factory=dict)
    samples: Mapping[Labels, float] = field(default_factory=dict)
    moment: int = 0
    took: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Evaluated:
    """`changed`: alerts in a new state, among them the ended ones. `vanished`: series recorded before, and not now."""

    known: Known
    changed: tuple[Alert, ...] = ()
    vanished: tuple[Labels, ...] = ()


def vector(found: Matrix) -> Vector:
    """The series of a matrix of one moment; a number is a series without labels."""
    rows = zip(found.labels, found.values[:, 0].tolist(), found.present[:, 0].tolist(), strict=True)
    return [(labels, value) for labels, value, present in rows if present]


def evaluate(rule: Rule, group: Group, before: Known, moment: int, ask: Ask, around: Surroundings) -> Evaluated:
    """The rule at `moment`. What goes wrong is told in `error`, and leaves alerts and samples as they were."""
    began = time.monotonic()
    try:
        found = ask(rule.tree)
        if rule.records:
            samples = _recorded(rule, group, found)
            vanished = tuple(labels for labels in before.samples if labels not in samples)
            return Evaluated(Known({}, samples, moment, time.monotonic() - began), (), vanished)
        seen = _alerting(rule, group, found, around)
        alerts, changed = advance(before.alerts, seen, moment, rule)
        return Evaluated(Known(alerts, {}, moment, time.monotonic() - began), tuple(changed))
    except (AtalaiaError, LogQLError) as error:
        reason = error.what if isinstance(error, AtalaiaError) else str(error)
    except Exception as error:
        log.exception("event=rule_failed rule=%r", rule.name)
        reason = f"internal error, please report it: {type(error).__name__}: {error}"
    return Evaluated(Known(before.alerts, before.samples, moment, time.monotonic() - began, reason))


def _recorded(rule: Rule, group: Group, found: Vector) -> dict[Labels, float]:
    own = {**group.labels, **rule.labels, NAME: rule.name}
    samples: dict[Labels, float] = {}
    for labels, value in found:
        key = _labels({**dict(labels), **own})
        if key in samples:
            raise InputError("several series have the same labels after the rule's labels were set")
        samples[key] = value
    _bounded(group, len(samples), "series")
    return samples


def _alerting(rule: Rule, group: Group, found: Vector, around: Surroundings) -> dict[Labels, Seen]:
    templates = {**group.labels, **rule.labels}
    seen: dict[Labels, Seen] = {}
    for labels, value in found:
        plain = {name: text for name, text in labels if name != NAME}
        own = {name: expanded(text, plain, value, around) for name, text in templates.items()}
        key = _labels({**plain, **own, "alertname": rule.name})
        if key in seen:
            raise InputError("several series have the same labels after the alert's labels were set")
        annotations = {name: expanded(text, plain, value, around) for name, text in rule.annotations.items()}
        seen[key] = Seen(value, annotations)
    _bounded(group, len(seen), "alerts")
    return seen


def _labels(labels: Mapping[str, str]) -> Labels:
    """A label without a value is none."""
    return label_key({name: value for name, value in labels.items() if value})


def _bounded(group: Group, count: int, what: str) -> None:
    if group.limit and count > group.limit:
        raise InputError(f"exceeded limit of {group.limit} with {count} {what}")


def asked_in_template(ask: Ask, text: str) -> Vector:
    """What a template's `query` finds. Raises InputError, LogQLError."""
    tree = parse(text)
    if isinstance(tree, LogQuery):
        raise InputError("a template's query must be a metric query")
    return ask(tree)


def alert_series(known: Known) -> dict[Labels, float]:
    """The series that Prometheus makes of alerts: ALERTS, and ALERTS_FOR_STATE in seconds since 1970."""
    series: dict[Labels, float] = {}
    for alert in known.alerts.values():
        labels = dict(alert.labels)
        series[_labels({**labels, NAME: "ALERTS", "alertstate": alert.state.value})] = 1.0
        series[_labels({**labels, NAME: "ALERTS_FOR_STATE"})] = float(alert.active // 10**9)
    return series
