"""One rule at one moment: labels, limits, errors; and what is recorded as Prometheus reads it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from atalaia.environment.errors import InputError
from atalaia.logql.errors import Impossible
from atalaia.logql.matrix import Matrix, label_key
from atalaia.logql.parse import parse
from atalaia.rules.evaluation import Known, Vector, alert_series, asked_in_template, evaluate, vector
from atalaia.rules.model import Group, Rule
from atalaia.rules.recorded import exposition
from atalaia.rules.remote_write import STALE, encoded, is_stale, write_request
from atalaia.rules.templates import Surroundings

TREE = parse("vector(1)")
AROUND = Surroundings(lambda _: [])
A, B = label_key({"server": "a", "job": "x"}), label_key({"server": "b"})


def alerting(**more: object) -> Rule:
    return Rule("Down", "vector(1)", TREE, **more)  # type: ignore[arg-type]


def run(rule: Rule, found: Vector | Exception, group: Group | None = None, before: Known | None = None) -> Known:
    def ask(_: object) -> Vector:
        if isinstance(found, Exception):
            raise found
        return found

    return evaluate(rule, group or Group("g", (rule,)), before or Known(), 10, ask, AROUND).known


def test_an_alert_has_the_labels_of_its_series_of_the_group_and_of_the_rule() -> None:
    rule = alerting(labels={"severity": "{{ $labels.server }}!", "job": ""}, annotations={"s": "{{ .Value }}"})
    known = run(rule, [(A, 2.0)], Group("g", (rule,), labels={"team": "db", "severity": "low"}))
    (alert,) = known.alerts.values()
    # The rule's labels win over the group's, an empty one takes a label away.
    assert dict(alert.labels) == {"alertname": "Down", "server": "a", "severity": "a!", "team": "db"}
    assert alert.annotations == {"s": "2"}
    assert known.error is None


@pytest.mark.parametrize("records", [False, True])
def test_series_that_become_one_are_an_error(records: bool) -> None:
    known = run(Rule("r", "vector(1)", TREE, records, labels={"server": "x", "job": "y"}), [(A, 1.0), (B, 1.0)])  # type: ignore[arg-type]
    assert known.error is not None
    assert "same labels" in known.error


@pytest.mark.parametrize(("records", "what"), [(False, "alerts"), (True, "series")])
def test_a_group_bounds_what_its_rules_may_give(records: bool, what: str) -> None:
    rule = Rule("r", "vector(1)", TREE, records)  # type: ignore[arg-type]
    assert run(rule, [(A, 1.0), (B, 1.0)], Group("g", (rule,), limit=2)).error is None
    assert run(rule, [(A, 1.0), (B, 1.0)], Group("g", (rule,), limit=1)).error == f"exceeded limit of 1 with 2 {what}"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InputError("too many", "ask less"), "too many"),
        (Impossible("no meaning"), "no meaning"),
        (ZeroDivisionError("x"), "internal error, please report it: ZeroDivisionError: x"),
    ],
)
def test_what_goes_wrong_is_told_and_alerts_stay(error: Exception, told: str) -> None:
    before = run(alerting(), [(A, 1.0)])
    after = run(alerting(), error, before=before)
    assert (after.error, after.alerts, after.moment) == (told, before.alerts, 10)


def test_recorded_samples_have_the_rules_name_and_those_that_vanish_are_told() -> None:
    rule = Rule("lines:rate", "vector(1)", TREE, True, labels={"job": "z"})  # type: ignore[arg-type]
    before = run(rule, [(A, 1.0), (B, 2.0)])
    name_a = label_key({"__name__": "lines:rate", "server": "a", "job": "z"})
    name_b = label_key({"__name__": "lines:rate", "server": "b", "job": "z"})
    assert before.samples == {name_a: 1.0, name_b: 2.0}
    found = evaluate(rule, Group("g", (rule,)), before, 20, lambda _: [(B, 3.0)], AROUND)
    assert (found.known.samples, found.vanished) == ({name_b: 3.0}, (name_a,))


def test_a_number_is_a_series_without_labels_and_what_is_absent_is_none() -> None:
    assert vector(Matrix.constant(2.0, 1, scalar=True)) == [((), 2.0)]
    found = Matrix((A, B), np.array([[1.0], [math.nan]]), np.array([[True], [False]]))
    assert vector(found) == [(A, 1.0)]


def test_a_templates_query_is_a_metric_query() -> None:
    assert asked_in_template(lambda _: [(A, 1.0)], "vector(1)") == [(A, 1.0)]
    with pytest.raises(InputError, match="metric query"):
        asked_in_template(lambda _: [], '{a="b"}')


def test_alerts_as_series() -> None:
    series = alert_series(run(alerting(hold=5), [(B, 1.0)]))
    pending = {"__name__": "ALERTS", "alertname": "Down", "alertstate": "pending", "server": "b"}
    since = {"__name__": "ALERTS_FOR_STATE", "alertname": "Down", "server": "b"}
    assert series == {label_key(pending): 1.0, label_key(since): 0.0}


def test_the_text_that_a_prometheus_scrapes() -> None:
    def of(name: str, **labels: str) -> tuple[tuple[str, str], ...]:
        return label_key({"__name__": name, **labels})

    samples = {of("b", x='q"\\\n'): 1.5, of("a"): 3.0, of("b"): math.inf, of("c"): math.nan, of("d"): 1e300}
    assert exposition(samples) == (
        "# TYPE a gauge\na 3\n"
        '# TYPE b gauge\nb +Inf\nb{x="q\\"\\\\\\n"} 1.5\n'
        "# TYPE c gauge\nc NaN\n# TYPE d gauge\nd 1e+300\n"
    )
    assert exposition({}) == ""


def test_a_write_request() -> None:
    import cramjam

    body = encoded([(A, 1.5, 10), (B, STALE, 10), (A, 2.5, 20)])
    request = write_request()()
    request.ParseFromString(bytes(cramjam.snappy.decompress_raw(body)))
    first, second = request.timeseries
    assert [(label.name, label.value) for label in first.labels] == [("job", "x"), ("server", "a")]
    assert [(s.value, s.timestamp) for s in first.samples] == [(1.5, 10), (2.5, 20)]
    assert is_stale(second.samples[0].value)
    assert not is_stale(math.nan)
