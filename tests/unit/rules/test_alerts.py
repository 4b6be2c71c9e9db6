"""The life of an alert, against a reference that looks at its whole history at once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atalaia.logql.parse import parse
from atalaia.rules.alerts import RESEND, Alert, Seen, State, advance, due
from atalaia.rules.model import Rule

S = 10**9
TREE = parse("vector(1)")
ONE = (("alertname", "A"),)
TWO = (("alertname", "A"), ("server", "b"))


def rule(hold: int = 0, keep: int = 0) -> Rule:
    return Rule("A", "vector(1)", TREE, hold=hold, keep=keep)  # type: ignore[arg-type]


def reference(moments: list[int], present: list[bool], hold: int, keep: int) -> list[str]:
    """The state after each evaluation: episodes are found in the history as a whole."""
    states: list[str] = []
    at = 0
    while at < len(moments):
        if not present[at]:
            states.append("inactive")
            at += 1
            continue
        begin = moments[at]
        while at < len(moments) and present[at] and moments[at] - begin < hold:
            states.append("pending")
            at += 1
        firing = at < len(moments) and present[at]
        while firing and at < len(moments):
            if present[at]:
                states.append("firing")
                at += 1
                continue
            gone = moments[at]
            while at < len(moments) and not present[at] and moments[at] - gone < keep:
                states.append("firing")
                at += 1
            firing = at < len(moments) and present[at]
    return states


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), max_size=40),
    st.integers(0, 8),
    st.integers(0, 8),
)
def test_states_are_those_of_the_reference(history: list[tuple[int, bool, bool]], hold: int, keep: int) -> None:
    moments, now = [], 0
    for step, _, _ in history:
        now += step
        moments.append(now)
    alerts: dict = {}
    states: dict = {ONE: [], TWO: []}
    told: dict = {ONE: [], TWO: []}
    for moment, (_, first, second) in zip(moments, history, strict=True):
        found = {labels: Seen(1.0, {}) for labels, there in ((ONE, first), (TWO, second)) if there}
        alerts, changed = advance(alerts, found, moment, rule(hold, keep))
        for labels, seen in states.items():
            seen.append(alerts[labels].state.value if labels in alerts else "inactive")
        for alert in changed:
            told[alert.labels].append((moment, alert.state.value))
    for labels, column in ((ONE, 1), (TWO, 2)):
        expected = reference(moments, [one[column] for one in history], hold, keep)
        assert states[labels] == expected
        # Each change of state is told once, when it happens; what ends after it fired is resolved.
        changes, before = [], "inactive"
        for moment, state in zip(moments, expected, strict=True):
            if state != before:
                changes.append((moment, "resolved" if (before, state) == ("firing", "inactive") else state))
            before = state
        assert told[labels] == changes


def test_value_and_annotations_are_those_of_the_last_evaluation_and_the_beginning_stays() -> None:
    first, _ = advance({}, {ONE: Seen(1.0, {"summary": "1"})}, 10, rule(hold=5))
    later, changed = advance(first, {ONE: Seen(2.0, {"summary": "2"})}, 12, rule(hold=5))
    assert changed == []
    assert later[ONE] == Alert(ONE, {"summary": "2"}, 2.0, active=10)


def test_a_series_that_comes_back_ends_the_time_that_keep_firing_for_counts() -> None:
    alerts, _ = advance({}, {ONE: Seen(1.0, {})}, 0, rule(keep=10))
    alerts, _ = advance(alerts, {}, 6, rule(keep=10))
    assert alerts[ONE].gone == 6
    alerts, _ = advance(alerts, {ONE: Seen(1.0, {})}, 12, rule(keep=10))
    assert alerts[ONE].gone is None
    alerts, changed = advance(alerts, {}, 20, rule(keep=10))
    assert (changed, alerts[ONE].state) == ([], State.FIRING)
    alerts, changed = advance(alerts, {}, 30, rule(keep=10))
    assert alerts == {}
    assert [(one.state, one.ended) for one in changed] == [(State.RESOLVED, 30)]


@pytest.mark.parametrize(
    ("sent", "now", "expected"),
    [(None, 5, True), (0, RESEND - 1, False), (0, RESEND, True), (0, 3 * RESEND, True)],
)
def test_firing_alerts_are_sent_again_every_minute(sent: int | None, now: int, expected: bool) -> None:
    alert = Alert(ONE, {}, 1.0, active=0, fired=0, sent=sent)
    assert due(alert, now) is expected
    assert not due(replace(alert, fired=None), now)
    assert not due(replace(alert, ended=now), now)
