"""Rules over a real store, with real receivers: states, restarts, receivers that are slow or down."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from logs_support import opened, wait_for
from rules_support import BEGIN, MINUTE, Receiver, S, World, receiver, world

from atalaia.environment.connection import Connection
from atalaia.query.execute import Executor
from atalaia.query.ticket import QueryCancelled, Ticket
from atalaia.rules.alertmanager import rfc3339
from atalaia.rules.evaluation import Known
from atalaia.rules.files import TENANT
from atalaia.rules.kept import KeptGroups, NoSuchRules
from atalaia.rules.plan import Plan
from atalaia.rules.reading import read_group
from atalaia.rules.remote_write import is_stale
from atalaia.rules.ruler import ReadOnly, Ruler
from atalaia.store.copying import snapshot

FATAL = """\
groups:
  - name: pg
    interval: 30s
    rules:
      - alert: Fatal
        expr: sum by (server) (count_over_time({job="postgres"} |= "FATAL" [1m])) > 1
        for: 30s
        labels: {severity: page}
        annotations: {summary: "{{ $labels.server }} has {{ $value }}"}
"""
LINES = """\
groups:
  - name: rates
    interval: 30s
    rules:
      - record: lines:count1m
        expr: sum by (server) (count_over_time({job="postgres"}[1m]))
        labels: {kind: test}
"""
HISTORY = '{job="atalaia", event="alert"}'


@pytest.fixture
def place(tmp_path: Path) -> Iterator[World]:
    with world(tmp_path) as made:
        yield made


@pytest.fixture
def manager() -> Iterator[Receiver]:
    with receiver() as made:
        yield made


def to(manager: Receiver) -> Plan:
    return Plan(alertmanagers=(Connection(manager.url + "/am/"),), labels={"site": "rio"})


def known(ruler: Ruler, group: int = 0, rule: int = 0) -> Known:
    return ruler.groups([TENANT])[group].known[rule]


def states(ruler: Ruler) -> list[str]:
    return sorted(alert.state.value for alert in known(ruler).alerts.values())


def test_an_alert_from_pending_to_resolved(place: World, manager: Receiver) -> None:
    ruler = place.ruler(to(manager), FATAL)
    place.step(ruler)
    assert states(ruler) == []
    place.push("FATAL:  x", "FATAL:  y")
    active = place.step(ruler)
    assert states(ruler) == ["pending"]
    assert manager.got == []
    place.push("FATAL:  z", "FATAL:  v", "FATAL:  w")
    fired = place.step(ruler)
    assert fired == active + 30 * S
    (sent,) = manager.take()
    assert (sent.path, sent.headers["Content-Type"]) == ("/am/api/v2/alerts", "application/json")
    labels = {"alertname": "Fatal", "server": "a", "severity": "page", "site": "rio"}
    (alert,) = sent.json()
    link = alert.pop("generatorURL")
    assert link.startswith("http://atalaia/loki/api/v1/query?query=sum%20by%20%28server%29")
    assert alert == {
        "labels": labels,
        "annotations": {"summary": "a has 3"},
        "startsAt": rfc3339(fired),
        "endsAt": rfc3339(fired + 4 * MINUTE),
    }
    place.now += 2 * MINUTE
    ended = place.step(ruler)
    (over,) = manager.take()[0].json()
    assert (over["labels"], over["startsAt"], over["endsAt"]) == (labels, rfc3339(fired), rfc3339(ended))
    assert known(ruler).alerts == {}
    for _ in range(5):
        place.step(ruler)
    assert manager.got == []
    text = 'server=a severity=page summary="a has {}"'
    assert place.lines(HISTORY) == [
        (active, f"alertname=Fatal alertstate=pending value=2 {text.format(2)}"),
        (fired, f"alertname=Fatal alertstate=firing value=3 {text.format(3)}"),
        (ended, f"alertname=Fatal alertstate=resolved value=3 {text.format(3)}"),
    ]
    assert len(place.lines(HISTORY + ' | alertstate="firing" | server="a" | rule_group="pg"')) == 1


def test_a_firing_alert_is_sent_again_every_minute(place: World, manager: Receiver) -> None:
    ruler = place.ruler(to(manager), FATAL.replace("for: 30s", "for: 0s"))
    for _ in range(8):
        place.push("FATAL:  x", "FATAL:  y")
        place.step(ruler)
    wait_for(lambda: len(manager.got) == 4, what="an alert a minute")
    assert len({one.json()[0]["startsAt"] for one in manager.got}) == 1
    assert len({one.json()[0]["endsAt"] for one in manager.got}) == 4


def test_states_survive_a_restart(place: World, manager: Receiver) -> None:
    ruler = place.ruler(to(manager), FATAL)
    place.push("FATAL:  x", "FATAL:  y")
    active = place.step(ruler)
    assert states(ruler) == ["pending"]
    # Nothing says good-bye: what counts is on disk when a state changes.
    again = place.ruler(to(manager))
    place.push("FATAL:  z", "FATAL:  v")
    fired = place.step(again)
    assert states(again) == ["firing"]
    assert known(again).alerts == {
        labels: alert for labels, alert in known(again).alerts.items() if (alert.active, alert.fired) == (active, fired)
    }
    manager.take()
    third = place.ruler(to(manager))
    assert states(third) == ["firing"]
    place.now += 10 * MINUTE
    ended = place.step(third)
    (over,) = manager.take()[0].json()
    assert over["endsAt"] == rfc3339(ended)
    assert [line.split()[1] for _, line in place.lines(HISTORY)] == [
        "alertstate=pending", "alertstate=firing", "alertstate=resolved",
    ]  # fmt: skip


def test_rules_of_one_name_are_told_apart(place: World) -> None:
    rule = '      - alert: Same\n        expr: count_over_time({{job="postgres"}}[{}]) > 1\n'
    text = "groups:\n  - name: g\n    interval: 30s\n    rules:\n" + rule.format("1m") + rule.format("10m")
    ruler = place.ruler(text=text)
    place.push("x", "y")
    place.step(ruler)
    place.now += 2 * MINUTE
    place.step(ruler)
    assert [len(one.alerts) for one in ruler.groups([TENANT])[0].known] == [0, 1]
    assert [len(one.alerts) for one in place.ruler().groups([TENANT])[0].known] == [0, 1]
    (place.folder / "rules.yaml").write_text(text.replace("> 1", "> 0"))
    ruler._files.changed()
    ruler._rebuild()
    assert [len(one.alerts) for one in ruler.groups([TENANT])[0].known] == [0, 1]


def test_after_a_long_time_a_pending_alert_begins_anew(place: World) -> None:
    ruler = place.ruler(text=FATAL)
    place.push("FATAL:  x", "FATAL:  y")
    place.step(ruler)
    place.now += 61 * MINUTE
    assert known(place.ruler()).alerts == {}


def test_a_damaged_state_file_is_told_and_left_behind(place: World, caplog: pytest.LogCaptureFixture) -> None:
    state = place.store.directory / "rules" / "alerts.json"
    state.parent.mkdir()
    for text in ("{", '{"version": 2}', '{"version": 1, "saved": 0, "rules": [{}]}', "[]"):
        state.write_text(text)
        caplog.clear()
        assert known(place.ruler(text=FATAL)).alerts == {}
        assert "event=alerts_forgotten" in caplog.text


def test_a_receiver_that_is_down_gets_the_newest_word_later(place: World, manager: Receiver) -> None:
    manager.status = 503
    ruler = place.ruler(to(manager), FATAL.replace("for: 30s", "for: 0s"))
    place.push("FATAL:  x", "FATAL:  y")
    place.step(ruler)
    manager.wait(lambda got: len(got) >= 3)  # it is tried again and again
    (outbox,) = ruler._publisher.outboxes()
    wait_for(lambda: outbox.error, what="the error is known")
    assert outbox.error is not None
    assert outbox.error.startswith("503")
    place.now += 2 * MINUTE
    place.step(ruler)
    manager.status = 200
    got = manager.wait(lambda got: any("endsAt" in one.body.decode() and _resolved(one.json()[0]) for one in got))
    wait_for(lambda: outbox.error is None, what="it is well again")
    # Once it takes alerts, it is told that this one is over, and not that it fires.
    assert len(got[-1].json()) == 1
    assert outbox.lost == 0


def _resolved(alert: dict[str, str]) -> bool:
    return alert["endsAt"] < rfc3339(BEGIN + 4 * MINUTE) and alert["endsAt"] != alert["startsAt"]


def test_what_a_receiver_refuses_is_not_sent_again(place: World, manager: Receiver) -> None:
    manager.status = 400
    ruler = place.ruler(to(manager), FATAL.replace("for: 30s", "for: 0s"))
    place.push("FATAL:  x", "FATAL:  y")
    place.step(ruler)
    (outbox,) = ruler._publisher.outboxes()
    wait_for(lambda: outbox.lost == 1, what="the alert is given up")
    assert len(manager.got) == 1


def test_a_slow_receiver_delays_neither_evaluations_nor_pushes(place: World, manager: Receiver) -> None:
    manager.free.clear()
    plan = Plan(alertmanagers=(Connection(manager.url),), remote_write=Connection(manager.url + "/write"))
    ruler = place.ruler(plan, FATAL.replace("for: 30s", "for: 0s"))
    place.push("FATAL:  x", "FATAL:  y")
    place.step(ruler)
    manager.wait(lambda got: len(got) == 2)  # both hold a request now
    began = time.monotonic()
    for _ in range(10):
        place.push("FATAL:  x", "FATAL:  y")
        place.step(ruler)
    assert time.monotonic() - began < 8
    assert ruler.groups([TENANT])[0].missed == 0
    assert len(manager.got) == 2
    began = time.monotonic()
    ruler.stop()
    assert time.monotonic() - began < 5, "nor our end"


def test_recorded_samples_are_written_with_an_end(place: World, manager: Receiver, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("secret\n")
    plan = Plan(remote_write=Connection(manager.url + "/api/v1/write", token_file=token), labels={"site": "rio"})
    ruler = place.ruler(plan, LINES)
    place.push("x", "y", server="a")
    place.push("x", server="b")
    first = place.step(ruler)
    (sent,) = manager.take()
    assert sent.path == "/api/v1/write"
    assert {name.lower(): sent.headers[name] for name in sent.headers if name.lower() in (
        "content-type", "content-encoding", "x-prometheus-remote-write-version", "authorization")} == {
        "content-type": "application/x-protobuf",
        "content-encoding": "snappy",
        "x-prometheus-remote-write-version": "0.1.0",
        "authorization": "Bearer secret",
    }  # fmt: skip

    def series(server: str) -> tuple[tuple[str, str], ...]:
        return (("__name__", "lines:count1m"), ("kind", "test"), ("server", server), ("site", "rio"))

    assert sent.series() == {series("a"): [(2.0, first // 10**6)], series("b"): [(1.0, first // 10**6)]}
    place.now += 2 * MINUTE
    place.push("z", server="b")
    second = place.step(ruler)
    found = manager.take()[0].series()
    assert found[series("b")] == [(1.0, second // 10**6)]
    ((ended, at),) = found[series("a")]
    assert (is_stale(ended), at) == (True, second // 10**6)


def test_secrets_may_change_and_one_that_is_missing_is_waited_for(
    place: World, manager: Receiver, tmp_path: Path
) -> None:
    password = tmp_path / "password"
    password.write_text("one")
    plan = Plan(alertmanagers=(Connection(manager.url, user="u", password_file=password),))
    ruler = place.ruler(plan, FATAL.replace("for: 30s", "for: 0s"))
    place.push("FATAL:  x", "FATAL:  y")
    place.step(ruler)
    assert manager.take()[0].headers["Authorization"] == "Basic dTpvbmU="
    password.write_text("second")
    place.now += 2 * MINUTE
    place.step(ruler)
    wait_for(lambda: manager.got, what="the alert is over")
    assert manager.got[0].headers["Authorization"] == "Basic dTpzZWNvbmQ="


def test_files_are_read_again_and_a_mistake_leaves_what_was(
    place: World, manager: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    ruler = place.ruler(to(manager), FATAL.replace("for: 30s", "for: 0s"))
    place.push("FATAL:  x", "FATAL:  y")
    place.step(ruler)
    manager.take()
    path = place.folder / "rules.yaml"
    path.write_text("groups: 5")
    assert ruler._files.changed()
    assert "rules.yaml:1: groups is 5, not a list" in ruler.problems()[0]
    assert "event=rules_unreadable" in caplog.text
    assert [view.placed.group.name for view in ruler.groups([TENANT])] == ["pg"]
    path.write_text(LINES + FATAL.removeprefix("groups:\n").replace("> 1", "> 0"))
    assert ruler._files.changed()
    ruler._rebuild()
    assert ruler.problems() == []
    assert [view.placed.group.name for view in ruler.groups([TENANT])] == ["rates", "pg"]
    assert [alert.state.value for alert in known(ruler, 1).alerts.values()] == ["firing"], "the rule is the same one"
    path.write_text(LINES)
    ruler._files.changed()
    ruler._rebuild()
    (over,) = manager.take()[0].json()
    assert over["endsAt"] == rfc3339(place.now), "a rule that is gone has no alerts"


def test_groups_of_the_api_are_kept(place: World) -> None:
    ruler = place.ruler(text=LINES)
    group = read_group("name: own\nrules:\n- record: r\n  expr: |\n    vector(\n      1)\n", Path("body"))
    for namespace in ("a/b", "..", "x y"):
        ruler.put("team.1", namespace, group)
    ruler.put(TENANT, "a/b", group)
    ruler.put("team.1", "a/b", read_group("name: second\nrules: []\n", Path("body")))
    with pytest.raises(ReadOnly, match="come from a file"):
        ruler.put(TENANT, "rules.yaml", group)
    with pytest.raises(NoSuchRules):
        ruler.remove("team.1", "a/b", "third")
    ruler.remove("team.1", "x y")
    files = sorted(str(p.relative_to(place.store.directory)) for p in place.store.directory.rglob("rules/groups/*/*"))
    assert files == [
        "rules/groups/fake/a%2Fb.yaml", "rules/groups/team%2E1/%2E%2E.yaml", "rules/groups/team%2E1/a%2Fb.yaml",
    ]  # fmt: skip
    found = place.ruler().groups(["team.1"])
    assert [(view.placed.namespace, view.placed.group.name) for view in found] == [
        ("..", "own"), ("a/b", "own"), ("a/b", "second"),
    ]  # fmt: skip
    assert found[1].placed.group == group
    ruler.remove("team.1", "a/b", "own")
    assert [view.placed.group.name for view in place.ruler().groups(["team.1"])] == ["own", "second"]


def test_a_snapshot_of_the_store_has_the_rules_and_their_alerts(place: World, tmp_path: Path) -> None:
    ruler = place.ruler()
    ruler.put("team.1", "a/b", read_group("name: own\nrules:\n- alert: A\n  expr: vector(1)\n", Path("body")))
    place.now += 2 * MINUTE
    ruler.run_due()
    snapshot(place.store.directory, tmp_path / "copy")
    with opened(tmp_path / "copy") as copy:
        again = Ruler(copy, place.executor, clock=lambda: place.now)
        (view,) = again.groups(["team.1"])
        again.stop()
    assert view.placed.namespace == "a/b"
    assert [alert.state.value for alert in view.known[0].alerts.values()] == ["firing"]


def test_a_file_of_the_api_that_is_damaged_stops_nothing(place: World, caplog: pytest.LogCaptureFixture) -> None:
    folder = place.store.directory / "rules" / "groups"
    kept = KeptGroups(folder)
    for namespace in ("good", "bad"):
        kept.put(TENANT, namespace, read_group("name: g\nrules: []\n", Path("body")))
    (folder / TENANT / "bad.yaml").write_text("groups: 5")
    assert [one.namespace for one in KeptGroups(folder).all()] == ["good"]
    assert "event=rules_unreadable" in caplog.text


def test_rules_see_their_own_tenant_alone(place: World) -> None:
    ruler = place.ruler(text=FATAL.replace("for: 30s", "for: 0s"))
    place.push("FATAL:  x", "FATAL:  y", tenant="other")
    place.step(ruler)
    assert states(ruler) == []
    text = FATAL.replace("for: 30s", "for: 0s").replace("interval: 30s", "interval: 5s")
    ruler.put("other", "own", read_group("\n".join(line[4:] for line in text.splitlines()[1:]).strip(), Path("body")))
    place.now += 5 * S
    ruler.run_due()
    (view,) = ruler.groups(["other"])
    assert [alert.state.value for alert in view.known[0].alerts.values()] == ["firing"]


def test_templates_may_ask(place: World) -> None:
    text = FATAL.replace("for: 30s", "for: 0s").replace(
        '"{{ $labels.server }} has {{ $value }}"',
        "'{{ with query `sum(count_over_time({job=\"postgres\"}[1m]))` }}{{ . | first | value }} in all{{ end }}'",
    )
    ruler = place.ruler(text=text)
    place.push("FATAL:  x", "FATAL:  y", "LOG:  z")
    place.step(ruler)
    (alert,) = known(ruler).alerts.values()
    assert alert.annotations == {"summary": "3 in all"}


def test_an_error_is_told_with_the_rule_and_those_after_it_go_on(place: World) -> None:
    bad = '      - record: bad\n        expr: sum(rate({job="postgres"} | json | unwrap x [1m]))\n'
    ruler = place.ruler(text=LINES + bad + "      - record: good\n        expr: vector(1)\n")
    place.push("not json")
    place.step(ruler)
    view = ruler.groups([TENANT])[0]
    assert view.known[0].error is None
    assert list(view.known[2].samples.values()) == [1.0]
    place.push('{"x": "y"}')
    place.step(ruler)
    view = ruler.groups([TENANT])[0]
    assert view.known[1].error is not None
    assert "SampleExtractionErr" in view.known[1].error


def test_a_late_evaluation_is_told_and_not_made_up_for(place: World) -> None:
    ruler = place.ruler(text=LINES)
    first = place.step(ruler)
    place.now = first + 5 * 30 * S + 1
    ruler.run_due()
    (view,) = ruler.groups([TENANT])
    assert (view.moment, view.missed) == (first + 5 * 30 * S, 4)
    ruler.run_due()
    assert ruler.groups([TENANT])[0].moment == view.moment


class Stuck(Executor):
    """Its metric queries end when they are told to."""

    asked = threading.Event()

    def metric(self, *arguments: object, **_: object) -> object:  # type: ignore[override]
        ticket = arguments[-1]
        assert isinstance(ticket, Ticket)
        over = threading.Event()
        ticket.tell(over.set)
        self.asked.set()
        assert over.wait(20)
        raise QueryCancelled("the query was cancelled")


def test_the_end_does_not_wait_for_a_query(place: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    place.executor = Stuck(place.store, place.executor._engine)
    ruler = place.ruler(text=LINES.replace("30s", "1s"))
    ruler._clock = time.time_ns
    ruler._rebuild()
    ruler.start()
    place.now = time.time_ns() + 2 * S
    assert Stuck.asked.wait(10)
    began = time.monotonic()
    ruler.stop()
    assert time.monotonic() - began < 5
    assert known(ruler) == Known(), "of a query that was cut short nothing is told"


def test_without_rules_nothing_runs(place: World) -> None:
    ruler = Ruler(place.store, place.executor)
    place.rulers.append(ruler)
    ruler.start()
    assert ruler._thread is None
    assert not (place.store.directory / "rules").exists()
    ruler.put("t", "n", read_group("name: g\nrules: []\n", Path("body")))
    assert ruler._thread is not None
    assert ruler._thread.is_alive()
