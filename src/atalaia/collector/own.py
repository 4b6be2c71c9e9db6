"""The plan of an environment's collector: its servers' logs, the targets of atalaia.toml, Atalaia's own logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from atalaia.collector.formats.settings import postgres_format
from atalaia.collector.formats.stderr import OWN_PREFIX
from atalaia.collector.listeners.opening import listening
from atalaia.collector.plan import Job, Output, Plan, Target
from atalaia.collector.promtail.load import load_jobs
from atalaia.collector.stages.labels import Labels
from atalaia.collector.stages.narrow import narrowed
from atalaia.collector.stages.regex import Regex
from atalaia.collector.stages.timestamp import Timestamp
from atalaia.environment.connection import Connection
from atalaia.environment.load import Environment
from atalaia.environment.sources import PostgresSource
from atalaia.environment.units import parse_duration, parse_size

_WAIT = 0.3
_OWN = r"^ts=(?P<time>\S+) level=(?P<level>\w+) service=(?P<service>\w+) "


def environment_plan(environment: Environment, servers: Mapping[str, Path], store: Connection) -> Plan:
    """`servers` has each server's directory."""
    settings = environment.settings.collection
    positions = environment.state.collector / "positions.db"
    jobs = []
    records = postgres_format("jsonlog", "jsonlog", redact=settings.redact)
    strays = postgres_format("stderr", "stderr", OWN_PREFIX, redact=settings.redact)
    for name, directory in servers.items():
        labels = {"job": "postgres", "server": name}
        written = Target(f"{directory}/log/*.json", labels)
        said = (Target(f"{directory}/log/*.log", labels), Target(f"{directory}/stderr.log", labels))
        jobs += [
            Job(f"{name}.jsonlog", (written,), records, filename=False),
            # A server writes a record in one piece: its lines are not long in coming.
            Job(f"{name}.stderr", said, strays, filename=False, wait=_WAIT),
        ]
    jobs += [_elsewhere(environment, source) for source in settings.postgres]
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
        for job in load_jobs(environment.resolve(settings.promtail), positions):
            if job.name in taken:
                job = replace(job, name=f"{job.name} of promtail")
                job = listening(job, job.listen, positions) if job.listen else job
            jobs.append(job)
    own = Target(f"{environment.state.own_logs}/*.log", {"job": "atalaia"})
    stages = (Regex(_OWN), Timestamp("time", "RFC3339Nano"), Labels({"level": None, "service": None}))
    jobs.append(Job("atalaia", (own,), stages=narrowed(stages), filename=False))
    # A line that the store would refuse is cut instead, and told.
    longest = min(parse_size(settings.max_line_size), parse_size(environment.settings.logs.limits.line_size))
    return Plan(
        tuple(jobs),
        (Output(f"{store.base}/loki/api/v1/push", min_backoff=0.05, max_backoff=5.0, trust=store),),
        positions,
        longest,
        parse_duration(environment.settings.logs.limits.clock_ahead),
    )


def _elsewhere(environment: Environment, source: PostgresSource) -> Job:
    """The job of a server that Atalaia does not run, `[[collection.postgres]]`."""
    redact = source.redact or environment.settings.collection.redact
    form = postgres_format(source.format, source.name, source.log_line_prefix, source.timezone, redact)
    labels = {"job": "postgres", "server": source.name}
    targets = [Target(str(environment.resolve(Path(pattern))), labels) for pattern in source.logs]
    return Job(f"{source.name} of postgres", tuple(targets), form, filename=False)
