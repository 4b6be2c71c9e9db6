"""`[collection] promtail = "promtail.yaml"` of an environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from atalaia.collector.listeners.opening import spool_directory
from atalaia.collector.own import environment_plan
from atalaia.collector.plan import Plan
from atalaia.environment.connection import Connection
from atalaia.environment.errors import ConfigurationError
from atalaia.environment.load import Environment, parse
from atalaia.environment.state import State


def plan_of(folder: Path, promtail: str) -> Plan:
    (folder / "promtail.yaml").write_text(promtail)
    file = folder / "atalaia.toml"
    settings, lines = parse('[collection]\npromtail = "promtail.yaml"\n', file)
    environment = Environment(file, settings, State(folder / ".atalaia"), lines)
    return environment_plan(environment, {"a": folder / "a"}, Connection("http://x"))


def test_its_jobs_are_collected_beside_the_environments_own(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        """\
        clients: [{url: http://elsewhere/loki/api/v1/push}]
        limits_config: {max_streams: 5}
        scrape_configs:
        - job_name: varlogs
          static_configs: [{labels: {__path__: /x/*.log, job: x}}]
        - job_name: atalaia.jsonlog
          loki_push_api: {server: {http_listen_address: 127.0.0.1, http_listen_port: 0}}
        - job_name: a.stderr
          syslog: {listen_address: "127.0.0.1:0"}
        """,
    )
    jobs = {job.name: job for job in plan.jobs}
    assert {"varlogs", "varlogs of promtail", "atalaia.jsonlog", "a.stderr of promtail"} <= jobs.keys()
    assert [stage.name for stage in jobs["varlogs of promtail"].stages] == ["max_streams"]
    assert plan.outputs[0].base == "http://x"
    # A spool is where the collector opens it: by the job's name at last.
    for name in ("atalaia.jsonlog", "a.stderr of promtail"):
        (target,) = jobs[name].targets
        assert target.pattern == str(spool_directory(plan.positions, name) / "*.jsonl")
        assert jobs[name].listen is not None


def test_what_is_wrong_with_it_is_told_with_its_lines(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        plan_of(tmp_path, "scrape_config: []\nscrape_configs:\n- job_name: a\n  kafka: {}\n")
    assert [(p.file.name, p.line) for p in caught.value.problems] == [("promtail.yaml", 1), ("promtail.yaml", 4)]
