"""The plan of an environment's collector: its servers' logs, the targets of atalaia.toml, Atalaia's own logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from atalaia.collector.plan import Job, Output, Plan, Target
from atalaia.collector.promtail.load import load_jobs
from atalaia.collector.stages.labels import Labels
from atalaia.collector.stages.narrow import narrowed
from atalaia.collector.stages.regex import Regex
from atalaia.collector.stages.timestamp import Timestamp
from atalaia.environment.connection import Connection
from atalaia.environment.load import Environment
from atalaia.environment.units import parse_duration, parse_size

_OWN = r"^ts=(?P<time>\S+) level=(?P<level>\w+) service=(?P<service>\w+) "


def environment_plan(environment: Environment, servers: Mapping[str, Path], store: Connection) -> Plan:
    """`servers` has each server's directory."""
    settings = environment.settings.collection
    jobs = []
    for name, directory in servers.items():
        labels = {"job": "postgres", "server": name}
        records = Target(f"{directory}/log/*.json", labels)
        strays = (Target(f"{directory}/log/*.log", labels), Target(f"{directory}/stderr.log", labels))
        jobs += [
            Job(f"{name}.jsonlog", (records,), "jsonlog", filename=False),
            Job(f"{name}.stderr", strays, "stderr", filename=False),
        ]
    if settings.targets:
        jobs.append(
            Job(
                "varlogs",
                tuple(Target(str(environment.resolve(Path(t))), {"job": "varlogs"}) for t in settings.targets),
            )
        )
    if settings.promtail:
        taken = {job.name for job in jobs}
        # A job's name names its files in the positions; a promtail job may be called as one of ours.
        for job in load_jobs(environment.resolve(settings.promtail)):
            jobs.append(replace(job, name=f"{job.name} of promtail") if job.name in taken else job)
    own = Target(f"{environment.state.own_logs}/*.log", {"job": "atalaia"})
    stages = (Regex(_OWN), Timestamp("time", "RFC3339Nano"), Labels({"level": None, "service": None}))
    jobs.append(Job("atalaia", (own,), stages=narrowed(stages), filename=False))
    # A line that the store would refuse is cut instead, and told.
    longest = min(parse_size(settings.max_line_size), parse_size(environment.settings.logs.limits.line_size))
    return Plan(
        tuple(jobs),
        (Output(f"{store.base}/loki/api/v1/push", min_backoff=0.05, max_backoff=5.0, trust=store),),
        environment.state.collector / "positions.db",
        longest,
        parse_duration(environment.settings.logs.limits.clock_ahead),
    )
