"""Rules as they are: their state, health and alerts, in the JSON of Prometheus' API.

The form: https://prometheus.io/docs/prometheus/latest/querying/api/#rules.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from decimal import Decimal

from starlette.requests import Request
from starlette.responses import Response

from atalaia.api.http import parameters_of, success
from atalaia.api.served import BOTH, GET, Served, Spec
from atalaia.api.tenants import tenants_to_read
from atalaia.environment.errors import InputError
from atalaia.logql.parse import parse
from atalaia.logql.select import matcher_tests
from atalaia.logql.tree import LogQuery
from atalaia.rules.alertmanager import rfc3339
from atalaia.rules.alerts import Alert, State
from atalaia.rules.evaluation import Known
from atalaia.rules.model import Rule
from atalaia.rules.running import View

_NEVER = "0001-01-01T00:00:00Z"
Json = dict[str, object]


class RuleStatesApi:
    """The handlers."""

    def __init__(self, served: Served) -> None:
        self._ruler = served.ruler

    def routes(self) -> list[Spec]:
        """Their routes."""
        return [
            ("/prometheus/api/v1/rules", self.rules, BOTH),
            ("/prometheus/api/v1/alerts", self.alerts, GET),
        ]

    async def rules(self, request: Request) -> Response:
        """/prometheus/api/v1/rules: type, rule_name[], rule_group[], file[], match[], exclude_alerts, group_limit."""
        wanted = _Wanted(await parameters_of(request))
        groups = []
        for view in self._ruler.groups(tenants_to_read(request)):
            if wanted.group(view):
                rules = [
                    _rule_json(rule, known, {**view.placed.group.labels, **rule.labels}, wanted.alerts)
                    for rule, known in zip(view.placed.group.rules, view.known, strict=True)
                    if wanted.rule(rule, {**view.placed.group.labels, **rule.labels})
                ]
                if rules or not wanted.narrow:
                    groups.append((_token(view), {**_group_json(view), "rules": rules}))
        return success(wanted.page(groups))

    async def alerts(self, request: Request) -> Response:
        """/prometheus/api/v1/alerts: all that are pending or firing."""
        return success(
            {
                "alerts": [
                    _alert_json(alert)
                    for view in self._ruler.groups(tenants_to_read(request))
                    for known in view.known
                    for alert in known.alerts.values()
                ]
            }
        )


class _Wanted:
    """Which rules a request asks for. Raises InputError."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        def given(name: str) -> list[str]:
            return [value for key, value in pairs if key in (name, f"{name}[]") and value]

        def one(name: str, pattern: str, remedy: str) -> str | None:
            value = next((text for key, text in pairs if key == name and text), None)
            if value is not None and not re.fullmatch(pattern, value):
                raise InputError(f"{name}={value[:100]!r} is not {remedy}")
            return value

        self._type = one("type", "alert|record", "alert or record")
        self._names, self._groups, self._files = given("rule_name"), given("rule_group"), given("file")
        self._tests = [_selector(text) for text in given("match")]
        excluded = one("exclude_alerts", "(?i)true|false|[tf01]", "true or false")
        self.alerts = excluded is None or excluded.lower() in ("false", "f", "0")
        limit = one("group_limit", "[1-9][0-9]{0,8}", "a number above zero")
        self._limit = int(limit) if limit else None
        self._token = one("group_next_token", ".*", "")
        if self._token and self._limit is None:
            raise InputError("group_next_token needs group_limit")
        self.narrow = bool(self._type or self._names or self._tests)

    def group(self, view: View) -> bool:
        placed = view.placed
        by_name = not self._groups or placed.group.name in self._groups
        return by_name and (not self._files or placed.namespace in self._files or str(placed.file) in self._files)

    def rule(self, rule: Rule, labels: Mapping[str, str]) -> bool:
        if self._type is not None and rule.records != (self._type == "record"):
            return False
        if self._names and rule.name not in self._names:
            return False
        return not self._tests or any(test(labels) for test in self._tests)

    def page(self, groups: list[tuple[str, Json]]) -> Json:
        tokens = [token for token, _ in groups]
        start = 0
        if self._token:
            if self._token not in tokens:
                raise InputError("group_next_token names no group: the rules were changed", "begin again without it")
            start = tokens.index(self._token)
        end = len(groups) if self._limit is None else start + self._limit
        data: Json = {"groups": [group for _, group in groups[start:end]]}
        return {**data, "groupNextToken": tokens[end]} if end < len(groups) else data


def _selector(text: str) -> Callable[[Mapping[str, str]], bool]:
    tree = parse(text)
    if not isinstance(tree, LogQuery) or tree.stages:
        raise InputError(f"match[]={text[:100]!r} is more than a selector of labels")
    tests = matcher_tests(tree.selector)
    return lambda labels: all(test(labels.get(name, "")) for name, test in tests)


def _token(view: View) -> str:
    return hashlib.blake2b("\0".join(view.placed.key).encode(), digest_size=16).hexdigest()


def _group_json(view: View) -> Json:
    return {
        "name": view.placed.group.name,
        "file": view.placed.namespace,
        "interval": view.placed.group.interval / 1e9,
        "limit": view.placed.group.limit,
        "evaluationTime": view.took,
        "lastEvaluation": _moment(view.moment),
        "missedEvaluations": view.missed,
    }


def _rule_json(rule: Rule, known: Known, labels: Mapping[str, str], with_alerts: bool) -> Json:
    about: Json = {
        "name": rule.name,
        "query": rule.expr.strip(),
        "labels": dict(labels),
        "health": "err" if known.error else "ok" if known.moment else "unknown",
        "evaluationTime": known.took,
        "lastEvaluation": _moment(known.moment),
    }
    if known.error:
        about["lastError"] = known.error
    if rule.records:
        return {**about, "type": "recording"}
    states = {alert.state for alert in known.alerts.values()}
    state = next((one for one in (State.FIRING, State.PENDING) if one in states), State.INACTIVE)
    return {
        "state": state.value,
        **about,
        "duration": rule.hold / 1e9,
        "keepFiringFor": rule.keep / 1e9,
        "annotations": dict(rule.annotations),
        "alerts": [_alert_json(alert) for alert in known.alerts.values()] if with_alerts else [],
        "type": "alerting",
    }


def _alert_json(alert: Alert) -> Json:
    found: Json = {
        "labels": dict(alert.labels),
        "annotations": dict(alert.annotations),
        "state": alert.state.value,
        "activeAt": rfc3339(alert.active),
        "value": exponent(alert.value),
    }
    return found if alert.gone is None else {**found, "keepFiringSince": rfc3339(alert.gone)}


def _moment(ns: int) -> str:
    return rfc3339(ns) if ns else _NEVER


def exponent(value: float) -> str:
    """A number as Go's FormatFloat(v, 'e', -1, 64) writes it: `1e+00`, `2.5e+01`."""
    text = repr(value)
    if "n" in text:
        return {"nan": "NaN", "inf": "+Inf"}.get(text, "-Inf")
    sign, digits, shift = Decimal(text).as_tuple()
    assert isinstance(shift, int)
    shown = "".join(map(str, digits)).rstrip("0") or "0"
    power = len(digits) + shift - 1 if any(digits) else 0
    mantissa = shown[0] + (f".{shown[1:]}" if shown[1:] else "")
    return f"{'-' if sign else ''}{mantissa}e{'-' if power < 0 else '+'}{abs(power):02d}"
