"""promtail.yaml -> Plan. What is not built is refused with its line, never ignored; all problems at once."""

from __future__ import annotations

import logging
from pathlib import Path

from atalaia.collector.plan import Job, Plan, Target
from atalaia.collector.promtail.clients import outputs_of
from atalaia.collector.promtail.values import checked, labels_from
from atalaia.collector.stages.narrow import narrowed
from atalaia.collector.stages.registry import build_stages
from atalaia.environment.errors import ConfigurationError
from atalaia.environment.units import parse_size
from atalaia.environment.yamlfile import Node, Reader, read_text
from atalaia.store.batch import Limits

log = logging.getLogger("atalaia.collector")
_KINDS = [
    "journal",
    "syslog",
    "loki_push_api",
    "docker_sd_configs",
    "gelf",
    "kafka",
    "gcplog",
    "azure_event_hubs",
    "cloudflare",
    "heroku_drain",
    "windows_events",
]


def load(path: Path, positions: Path | None = None) -> Plan:
    """The plan of a promtail.yaml. Raises ConfigurationError with every problem, InputError when it cannot be read."""
    reader = Reader(path)
    root = reader.mapping(
        reader.load(read_text(path)),
        "promtail.yaml",
        {"server", "positions", "clients", "client", "scrape_configs", "limits_config", "target_config"},
    )
    outputs = outputs_of(reader, root, path)
    jobs = jobs_of(reader, root)
    limits = reader.mapping(root.get("limits_config"), "limits_config", {"max_line_size", "max_line_size_truncate"})
    size = checked(reader, limits.get("max_line_size"), "max_line_size", line_size) or 256 << 10
    if "server" in root:
        log.info("event=setting_unused setting=server file=%s reason='the collector serves no HTTP yet'", path.name)
    kept = reader.mapping(root.get("positions"), "positions", {"filename", "sync_period", "ignore_invalid_yaml"})
    written = reader.text(kept.get("filename"), "positions.filename")
    if not jobs and not reader.problems:
        reader.problem(
            Node(None, 0),
            "no scrape_configs: nothing would be collected",
            "add a job with static_configs and __path__",
        )
    if reader.problems:
        raise ConfigurationError(reader.problems)
    place = positions or Path(f"{written or path.with_suffix('.positions')}.atalaia")
    return Plan(tuple(jobs), outputs, place, size)


def load_jobs(path: Path) -> list[Job]:
    """Only the jobs of a promtail.yaml, for an environment that has its own output. Errors as `load`."""
    reader = Reader(path)
    root = reader.mapping(reader.load(read_text(path)), "promtail.yaml")
    jobs = jobs_of(reader, root)
    if reader.problems:
        raise ConfigurationError(reader.problems)
    return jobs


def line_size(text: str) -> int:
    """A longest line's size; 0 stands for the default. ValueError beyond what the store takes."""
    size = parse_size(text)
    if size and not 128 <= size <= Limits().line:
        raise ValueError(f"{text!r} is not from 128 B to 1 MiB, which is the longest line that is stored")
    return size


def jobs_of(reader: Reader, root: dict[str, Node]) -> list[Job]:
    """The scrape_configs as jobs."""
    jobs = []
    for number, node in enumerate(reader.sequence(root.get("scrape_configs"), "scrape_configs")):
        entry = reader.mapping(node, "scrape_configs")
        for key, value in entry.items():
            if key in _KINDS:
                reader.problem(
                    value,
                    f"{key} is not built yet",
                    "collect files with static_configs, or keep Promtail for this job",
                )
            elif key not in ("job_name", "static_configs", "pipeline_stages"):
                reader.problem(
                    value,
                    f"scrape_configs: {key!r} is not built yet",
                    "known here: job_name, static_configs, pipeline_stages",
                )
        name = reader.text(entry.get("job_name"), "job_name") or f"job {number}"
        targets = [
            t for s in reader.sequence(entry.get("static_configs"), "static_configs") if (t := _target(reader, s, name))
        ]
        stages = build_stages(reader, reader.sequence(entry.get("pipeline_stages"), "pipeline_stages"))
        if not targets and not any(key in _KINDS or key == "static_configs" for key in entry):
            reader.problem(
                node,
                f"job {name!r} has no static_configs: it would collect nothing",
                'add `static_configs:` with `- labels: {__path__: "/var/log/*log"}`',
            )
        if targets:
            jobs.append(Job(name, tuple(targets), stages=narrowed(stages)))
    return jobs


def _target(reader: Reader, node: Node, job: str) -> Target | None:
    entry = reader.mapping(node, "static_configs", {"targets", "labels"})
    labels = {k: v for k, v in labels_from(reader, entry.get("labels"), "labels").items() if v is not None}
    pattern = labels.pop("__path__", None)
    exclude = labels.pop("__path_exclude__", None)
    for name in [name for name in labels if name.startswith("__")]:
        del labels[name]  # Prometheus' rule: labels that begin with __ are dropped after relabelling
    if not pattern:
        reader.problem(
            node,
            f"job {job!r} has a static_config without __path__",
            'add `__path__: "/var/log/*log"` to its labels',
        )
        return None
    return Target(pattern, {"job": job} | labels, exclude)
