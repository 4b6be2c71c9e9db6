"""Rules over HTTP: set, listed, removed, evaluated by a real server; alerts and recorded samples."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from api_support import Served, Tenant, assert_quiet, served, tenant  # noqa: F401 - fixtures
from logs_support import wait_for
from rules_support import Received, receiver

from atalaia.cli.main import run

RULES = "/loki/api/v1/rules"
STATES = "/prometheus/api/v1/rules"
GROUP = """\
name: pg
interval: 1s
labels: {team: db}
rules:
  - alert: Fatal
    expr: sum by (server) (count_over_time({job="postgres"} |= "FATAL" [10m])) > 1
    labels: {severity: page}
    annotations: {summary: "{{ $value }} on {{ $labels.server }}"}
  - record: lines:count10m
    expr: sum by (server) (count_over_time({job="postgres"}[10m]))
"""


def text(of: Tenant, path: str, status: int = 200, method: str = "GET", **options: Any) -> str:
    answer = of.call(path, method, **options)
    assert answer.status_code == status, answer.text
    return answer.text


def put(of: Tenant, group: str = GROUP, namespace: str = "ns", base: str = RULES) -> None:
    answer = of.call(f"{base}/{namespace}", "POST", content=group)
    assert (answer.status_code, answer.json()) == (
        202,
        {"status": "success", "data": None, "errorType": "", "error": ""},
    )


def groups(of: Tenant, **parameters: Any) -> list[dict[str, Any]]:
    answer = of.call(STATES, params=parameters)
    assert answer.status_code == 200, answer.text
    assert answer.json()["status"] == "success"
    return list(answer.json()["data"]["groups"])


def names(found: list[dict[str, Any]]) -> list[str]:
    return [f"{group['name']}.{rule['name']}" for group in found for rule in group["rules"]]


@pytest.mark.parametrize("base", [RULES, "/api/prom/rules"])
def test_groups_are_set_listed_and_removed(tenant: Tenant, base: str) -> None:  # noqa: F811
    assert text(tenant, base, 404) == "no rule groups found\n"
    put(tenant, base=base)
    put(tenant, GROUP.replace("name: pg", "name: second"), base=base)
    put(tenant, GROUP, "a%2Fb c", base=base)
    listed = yaml.safe_load(text(tenant, base))
    assert list(listed) == ["a/b c", "ns"]
    assert [group["name"] for group in listed["ns"]] == ["pg", "second"]
    assert listed["ns"][0] == {**yaml.safe_load(GROUP), "interval": "1s"}
    assert yaml.safe_load(text(tenant, f"{base}/ns")) == {"ns": listed["ns"]}
    assert yaml.safe_load(text(tenant, f"{base}/ns/second")) == listed["ns"][1]
    assert text(tenant, f"{base}/ns/third", 404) == "group does not exist\n"
    # A group of the same name takes the place of the one before.
    put(tenant, "name: pg\nrules: []\n", base=base)
    assert yaml.safe_load(text(tenant, f"{base}/ns/pg")) == {"name": "pg", "interval": "1m", "rules": []}
    assert json.loads(text(tenant, f"{base}/ns/pg", 202, "DELETE"))["status"] == "success"
    assert "group does not exist" in text(tenant, f"{base}/ns/pg", 404, "DELETE")
    text(tenant, f"{base}/ns", 202, "DELETE")
    assert "namespace does not exist" in text(tenant, f"{base}/ns", 404, "DELETE")
    text(tenant, f"{base}/a%2Fb%20c/pg", 202, "DELETE")
    text(tenant, base, 404)


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("ns", "rules: []", 400, "body:1: the group has no name"),
        ("ns", "groups: []", 400, "whole rule file"),
        ("ns", "name: [", 400, "not YAML"),
        ("ns", b"name: \xff", 400, "not UTF-8"),
        (
            "ns",
            "name: g\nrules:\n- alert: A\n  expr: sum(",
            400,
            "body:4: the expression of rule 'A': parse error at line 1, col 5",
        ),
        ("ns", "name: g\nrules:\n- alert: A\n  expr: '{a=\"b\"}'\n- record: 1\n  expr: x", 400, "has 3 problems"),
        ("ns/group", "name: g", 400, "name a namespace"),
        ("n" * 300, "name: g", 400, "200 characters"),
        ("%FF", "name: g", 400, "not UTF-8"),
        ("ns", "name: " + "g" * 201, 400, "more than 200 bytes"),
        ("ns", "#" * (1 << 20) + "#", 413, "at most 1048576 bytes"),
    ],
)
def test_what_is_wrong_is_refused(tenant: Tenant, path: str, body: Any, status: int, told: str) -> None:  # noqa: F811
    assert told in text(tenant, f"{RULES}/{path}", status, "POST", content=body)
    text(tenant, RULES, 404)


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("type=alerts", "alert or record"),
        ("exclude_alerts=maybe", "true or false"),
        ("group_limit=0", "a number above zero"),
        ("group_next_token=x", "needs group_limit"),
        ("group_limit=1&group_next_token=x", "names no group"),
        ("match[]={", "parse error at line 1, col 2"),
        ('match[]={a="b"} |= "x"', "more than a selector"),
    ],
)
def test_parameters_that_are_wrong_are_refused(tenant: Tenant, query: str, told: str) -> None:  # noqa: F811
    put(tenant)
    assert told in text(tenant, f"{STATES}?{query}", 400)


def test_rules_are_chosen(tenant: Tenant) -> None:  # noqa: F811
    put(tenant)
    put(tenant, GROUP.replace("name: pg", "name: second").replace("page", "low"))
    put(tenant, "name: empty\nrules: []\n", "other")
    everything = ["pg.Fatal", "pg.lines:count10m", "second.Fatal", "second.lines:count10m"]
    for parameters, expected in (
        ({}, everything),
        ({"type": "alert"}, ["pg.Fatal", "second.Fatal"]),
        ({"type": "record"}, ["pg.lines:count10m", "second.lines:count10m"]),
        ({"rule_name[]": ["Fatal", "x"]}, ["pg.Fatal", "second.Fatal"]),
        ({"rule_group[]": "second"}, ["second.Fatal", "second.lines:count10m"]),
        ({"rule_group": "second", "type": "alert"}, ["second.Fatal"]),
        ({"file[]": "other"}, []),
        ({"match[]": '{severity="low"}'}, ["second.Fatal"]),
        ({"match[]": ['{severity="low"}', '{severity="page", team="db"}']}, ["pg.Fatal", "second.Fatal"]),
        ({"match[]": '{team="x"}'}, []),
    ):
        assert names(groups(tenant, **parameters)) == expected, parameters
    assert [group["name"] for group in groups(tenant)] == ["pg", "second", "empty"]
    page, seen = tenant.call(STATES, params={"group_limit": 2}).json()["data"], list[str]()
    seen += [group["name"] for group in page["groups"]]
    page = tenant.call(STATES, params={"group_limit": 2, "group_next_token": page["groupNextToken"]}).json()["data"]
    assert [*seen, *(group["name"] for group in page["groups"])] == ["pg", "second", "empty"]
    assert "groupNextToken" not in page


def settled(of: Tenant, enough: Callable[[list[dict[str, Any]]], object]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []

    def look() -> object:
        found[:] = groups(of)
        return enough(found)

    wait_for(look, 20, "the rules are evaluated")
    return found


def test_a_server_evaluates_in_time(tenant: Tenant) -> None:  # noqa: F811
    now = time.time_ns()
    tenant.push({"job": "postgres", "server": "a"}, [[now - 1, "FATAL:  x"], [now - 2, "FATAL:  y"]])
    put(tenant)
    assert groups(tenant)[0]["rules"][0]["health"] in ("unknown", "ok")
    (group,) = settled(tenant, lambda found: found[0]["rules"][1]["health"] == "ok")
    alerting, recording = group["rules"]
    assert (group["file"], group["interval"], group["limit"], group["name"]) == ("ns", 1, 0, "pg")
    labels = {"alertname": "Fatal", "server": "a", "severity": "page", "team": "db"}
    (alert,) = alerting.pop("alerts")
    assert alert.pop("activeAt") <= alerting.pop("lastEvaluation")
    assert alerting.pop("evaluationTime") > 0
    assert alert == {"labels": labels, "annotations": {"summary": "2 on a"}, "state": "firing", "value": "2e+00"}
    assert alerting == {
        "state": "firing",
        "name": "Fatal",
        "query": 'sum by (server) (count_over_time({job="postgres"} |= "FATAL" [10m])) > 1',
        "labels": {"severity": "page", "team": "db"},
        "annotations": {"summary": "{{ $value }} on {{ $labels.server }}"},
        "health": "ok",
        "duration": 0,
        "keepFiringFor": 0,
        "type": "alerting",
    }
    assert (recording["type"], recording["name"], recording["labels"]) == (
        "recording", "lines:count10m", {"team": "db"},
    )  # fmt: skip
    assert groups(tenant, exclude_alerts="true")[0]["rules"][0]["alerts"] == []
    (shown,) = tenant.call("/prometheus/api/v1/alerts").json()["data"]["alerts"]
    assert shown["labels"] == labels
    answer = tenant.call("/atalaia/v1/recorded")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert '# TYPE lines:count10m gauge\nlines:count10m{server="a",team="db"} 2\n' in answer.text
    assert 'ALERTS{alertname="Fatal",alertstate="firing",server="a",severity="page",team="db"} 1\n' in answer.text
    query, end = '{job="atalaia", event="alert"} | alertstate="firing"', now + 60 * 10**9
    wait_for(lambda: tenant.lines(query, start=now - 10**9, end=end), what="the alert is recorded")
    (line,) = tenant.lines(query, start=now - 10**9, end=end)
    assert line.startswith("alertname=Fatal alertstate=firing value=2 server=a")
    text(tenant, f"{RULES}/ns", 202, "DELETE")
    wait_for(lambda: text(tenant, "/atalaia/v1/recorded") == "", what="nothing is recorded any more")


def test_tenants_do_not_see_each_others_rules(tenant: Tenant, served: Served) -> None:  # noqa: F811
    put(tenant)
    other = Tenant(tenant.http, f"{tenant.name}-other")
    text(other, RULES, 404)
    assert groups(other) == []
    assert "namespace does not exist" in text(other, f"{RULES}/ns", 404, "DELETE")
    text(other, f"{RULES}/ns", 404)
    assert "is not a tenant" in text(Tenant(tenant.http, "a b"), f"{RULES}/ns", 400, "POST", content=GROUP)


FILE = "groups:\n- " + GROUP.replace("> 1", "> 1\n    for: 1h", 1).replace("\n", "\n  ").rstrip() + "\n"


Called = Callable[..., tuple[int, str, str]]


@pytest.fixture
def atalaia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Called:
    """The command in this process: its exit code, what it printed, what it complained of."""
    monkeypatch.chdir(tmp_path)
    for name in ("LOKI_ADDR", "LOKI_ORG_ID"):
        monkeypatch.delenv(name, raising=False)

    def called(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["atalaia", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            run()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return called


def _has_lines(received: Received) -> bool:
    return received.path == "/write" and any(("__name__", "lines:count10m") in labels for labels in received.series())


def test_rule_files_receivers_and_a_kill(tmp_path: Path, atalaia: Called) -> None:
    (tmp_path / "pg.yaml").write_text(FILE)
    with receiver() as got:
        options = ("--rules", str(tmp_path / "*.yaml"), "--remote-write", f"{got.url}/write", "--alertmanager", got.url)
        server = Served(tmp_path / "store", *options)
        try:
            with httpx.Client(base_url=server.url, trust_env=False) as http:
                mine = Tenant(http, "fake")
                now = time.time_ns()
                mine.push({"job": "postgres", "server": "[b]"}, [[now - 1, "FATAL:  x"], [now - 2, "FATAL:  y"]])
                (group,) = settled(mine, lambda found: found[0]["rules"][0]["state"] == "pending")
                (pending,) = group["rules"][0]["alerts"]
                refused = text(mine, f"{RULES}/pg.yaml", 409, "POST", content=GROUP)
                assert "come from a file" in refused
                assert "come from a file" in text(mine, f"{RULES}/pg.yaml/pg", 409, "DELETE")
                wait_for(lambda: got.got, what="samples are written")
                wait_for(lambda: any(map(_has_lines, got.got)), what="recorded samples among them")
                wait_for(
                    lambda: mine.lines('{job="atalaia"}', start=now, end=now + 60 * 10**9), what="the alert is recorded"
                )
            server.process.send_signal(signal.SIGKILL)
            server.process.wait(20)
        finally:
            server.stop()
        server = Served(tmp_path / "store", *options)
        try:
            with httpx.Client(base_url=server.url, trust_env=False) as http:
                (again,) = settled(Tenant(http, "fake"), lambda found: found[0]["rules"][0]["health"] == "ok")
                text_of = http.get("/metrics").text
            for line in (
                'loki_prometheus_rule_group_rules{rule_group="fake/pg.yaml;pg"} 2',
                'atalaia_alerts{state="pending"} 1',
                "atalaia_rules_failing 0",
                "atalaia_rule_files_unreadable 0",
                f'atalaia_receiver_up{{receiver="{got.url}/write"}} 1',
                f'loki_prometheus_notifications_dropped_total{{receiver="{got.url}/api/v2/alerts"}} 0',
            ):
                assert f"\n{line}\n" in text_of
            # `for` goes on counting where it was.
            assert [alert["activeAt"] for alert in again["rules"][0]["alerts"]] == [pending["activeAt"]]
            code, listed, complaint = atalaia("rules", "list", "--url", server.url)
            assert (code, complaint) == (0, "")
            assert [line.split()[:5] for line in listed.splitlines()] == [
                ["STATE", "HEALTH", "RULE", "GROUP", "FILE"],
                ["pending", "ok", "Fatal", "pg", "pg.yaml"],
                ["recording", "ok", "lines:count10m", "pg", "pg.yaml"],
            ]
            _, shown, _ = atalaia("alerts", "--url", server.url)
            for part in ("pending", "server=[b], severity=page, team=db", "2 on [b]"):
                assert part in shown
            _, shown, _ = atalaia("alerts", "--json", "--url", server.url)
            assert json.loads(shown) == [again["rules"][0]["alerts"][0]]
            _, _, complaint = atalaia("rules", "list", "--url", server.url, "--tenant", "x")
            assert "there are no rules" in complaint
        finally:
            assert server.stop() == 0
    assert_quiet(server)


def test_rule_files_are_checked_without_a_server(tmp_path: Path, atalaia: Called) -> None:
    _, example, _ = atalaia("rules", "example")
    (tmp_path / "good.yaml").write_text(example)
    (tmp_path / "bad.yaml").write_text("groups:\n- name: a\n  rules:\n  - alert: A\n    expr: sum(\n- rules: 5\n")
    (tmp_path / "atalaia.toml").write_text('[logs]\nrules = ["*.yaml"]\n')
    code, printed, complaint = atalaia("rules", "check")
    assert (code, printed) == (2, "")
    places = [line.split(": ")[0] for line in complaint.splitlines()[::2]]
    assert places == [f"{tmp_path / 'bad.yaml'}:{line}" for line in (5, 6, 6)]
    code, _, complaint = atalaia("up")
    assert code == 2
    assert "nothing was started" in complaint
    assert "bad.yaml:5" in complaint
    code, printed, _ = atalaia("rules", "check", "good.yaml")
    assert (code, printed) == (0, "good.yaml is good: 4 groups, 15 alerting and 3 recording rules\n")
    command = [sys.executable, "-m", "atalaia", "serve", "--data", "d", "--rules", "bad.yaml"]
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (refused.returncode, (tmp_path / "d").exists()) == (2, False)
    assert "bad.yaml:5" in refused.stderr
