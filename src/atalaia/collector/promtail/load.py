"""promtail.yaml -> Plan. What is not built is refused with its line, never ignored; all problems at once."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from atalaia.collector.plan import Job, Plan
from atalaia.collector.promtail.clients import outputs_of
from atalaia.collector.promtail.expand import ExpandError, expand
from atalaia.collector.promtail.given import Given, put_over, shown
from atalaia.collector.promtail.scrape import Around, jobs_of, stdin_of
from atalaia.collector.promtail.settings import TOP, lines_of, others, positions_of, server_of
from atalaia.collector.promtail.takeover import Recorded, recorded
from atalaia.environment.errors import ConfigurationError, Problem
from atalaia.environment.yamlfile import Node, Reader, read_text

log = logging.getLogger("atalaia.collector")


@dataclass(frozen=True, slots=True)
class Loaded:
    """A promtail.yaml: its plan, what should be known about it, its text for people, and its log's level.

    `before`: Promtail's positions, while there are none of ours.
    """

    plan: Plan
    remarks: tuple[Problem, ...]
    text: str
    level: str
    before: Recorded


def load(path: Path, positions: Path | None = None, given: Given | None = None) -> Plan:
    """The plan of a promtail.yaml. Raises ConfigurationError with every problem, InputError when it cannot be read."""
    return read(path, positions, given).plan


def read(path: Path, positions: Path | None = None, given: Given | None = None) -> Loaded:
    """As `load`, with all that it says. `positions`: where ours are kept, in place of what the file says."""
    given = given or Given()
    reader = Reader(path)
    tree = reader.load(_text(path, given))
    put_over(tree, given)
    root = reader.mapping(tree, "promtail.yaml", TOP)
    outputs = outputs_of(reader, root, path)
    server, level = server_of(reader, root.get("server"))
    kept = positions_of(reader, root.get("positions"))
    lines = lines_of(reader, root.get("limits_config"))
    stdin = others(reader, root) or given.stdin
    for flag in given.unused:
        reader.remark(Node(None, 0), f"the flag -{flag} is not used", "it means nothing here")
    place = positions or kept.own(path)
    around = Around(lines, place, given.whole)
    labels: dict[str, str] | None = None
    if stdin:
        job, labels = stdin_of(reader, root.get("scrape_configs"), around)
        jobs = [job]
    else:
        jobs = jobs_of(reader, root.get("scrape_configs"), around)
    if not jobs and not reader.problems:
        remedy = "add a job with static_configs and __path__"
        reader.problem(Node(None, 0), "no scrape_configs: nothing would be collected", remedy)
    if reader.problems:
        raise ConfigurationError(reader.problems)
    before = Recorded() if stdin or place.exists() else recorded(kept.file, kept.ignore_invalid)
    plan = Plan(
        tuple(jobs),
        outputs,
        place,
        lines.read,
        limits=lines.limits,
        server=server,
        stdin=labels,
    )
    remarks = tuple(sorted(reader.remarks, key=lambda remark: remark.line))
    return Loaded(plan, remarks, shown(tree), level, before)


def load_jobs(path: Path, positions: Path) -> list[Job]:
    """Only the jobs of a promtail.yaml, for an environment that has its own output and positions. Errors as `load`."""
    reader = Reader(path)
    root = reader.mapping(reader.load(_text(path, Given())), "promtail.yaml", TOP)
    around = Around(lines_of(reader, root.get("limits_config")), positions)
    jobs = jobs_of(reader, root.get("scrape_configs"), around)
    if reader.problems:
        raise ConfigurationError(reader.problems)
    tell(reader.remarks)
    return jobs


def tell(remarks: list[Problem] | tuple[Problem, ...]) -> None:
    """Log what should be known about a file: settings without a use in one line, all others one by one."""
    unused = [remark.message.removesuffix(" is not used") for remark in remarks if remark.message.endswith("not used")]
    if unused:
        log.info("event=settings_unused names=%s", ",".join(unused))
    for remark in remarks:
        if not remark.message.endswith("not used"):
            log.info("event=setting file=%s line=%d told=%r", remark.file, remark.line, remark.message)


def _text(path: Path, given: Given) -> str:
    text = read_text(path)
    if not given.expand:
        return text
    try:
        return expand(text, os.environ)
    except ExpandError as error:
        remedy = "write ${VAR} or ${VAR:-default}; a $ that stands for itself is written $$"
        raise ConfigurationError([Problem(path, error.line, f"{error}", remedy)]) from error
