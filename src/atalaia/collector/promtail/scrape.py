"""scrape_configs -> jobs."""

from __future__ import annotations

import codecs
import copy
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from atalaia.collector.formats import settings as formats
from atalaia.collector.listeners.opening import listening
from atalaia.collector.listeners.registry import KINDS
from atalaia.collector.listeners.stdin import opener
from atalaia.collector.plan import Decompression, Job, Target
from atalaia.collector.promtail.refused import REFUSED
from atalaia.collector.promtail.settings import Lines
from atalaia.collector.promtail.targets import Discovered, Group, files_of, groups_of, targets_of
from atalaia.collector.promtail.values import seconds
from atalaia.collector.relabel import Relabeller, Rule, rules_of
from atalaia.collector.stages.bounds import FewStreams, LongLines
from atalaia.collector.stages.narrow import narrowed
from atalaia.collector.stages.registry import build_stages
from atalaia.collector.stages.stage import Stage
from atalaia.environment.yamlfile import Node, Reader

_FILES = {"static_configs", "file_sd_configs"}
_KEYS = _FILES | {"job_name", "pipeline_stages", "relabel_configs", "decompression", "encoding", *formats.KEYS}
_FORMATS = ("gz", "bz2", "z", "xz", "zst")


@dataclass(frozen=True, slots=True)
class Around:
    """What the rest of the file says to its jobs: limits, and where positions are kept, beside which spools are.

    `whole`: stages keep what no later stage reads.
    """

    lines: Lines
    positions: Path
    whole: bool = False

    def job(self, job: Job) -> Job:
        """The job with the stages that the limits need, and without work that nobody asks for."""
        stages = list(job.stages)
        if self.lines.drop_long:
            stages.append(LongLines(self.lines.longest))
        if self.lines.streams:
            stages.append(FewStreams(self.lines.streams))
        return replace(job, stages=tuple(stages) if self.whole else narrowed(stages))


def jobs_of(reader: Reader, node: Node | None, around: Around) -> list[Job]:
    """The scrape_configs as jobs: one for a scrape_config's files, and one for each of its listeners."""
    nodes = reader.sequence(node, "scrape_configs")
    jobs: list[Job] = []
    names: set[str] = set()
    for number, one in enumerate(nodes):
        body = _body(reader, one)
        name = reader.text(body.get("job_name"), "job_name") or f"job {number}"
        if name in names:
            reader.problem(body.get("job_name", one), f"the job {name!r} stands twice", "give each job its own name")
        names.add(name)
        jobs += _jobs(reader, one, body, name, around.positions)
    return [around.job(job) for job in jobs]


def _body(reader: Reader, node: Node) -> dict[str, Node]:
    body = reader.mapping(node, "scrape_configs", _KEYS | KINDS.keys() | REFUSED.keys())
    for key in body:
        if key in REFUSED:
            reader.problem(body[key], f"{key} is not built", REFUSED[key])
    return body


def _jobs(reader: Reader, node: Node, body: dict[str, Node], name: str, positions: Path) -> list[Job]:
    stages = _stages(reader, body)
    rules = rules_of(reader, body.get("relabel_configs"))
    decompression = _decompression(reader, body.get("decompression"))
    encoding = _encoding(reader, body.get("encoding"))
    files = files_of(reader, body.get("file_sd_configs"))
    form = formats.format_of(reader, body, name)
    targets = _static(reader, body.get("static_configs"), name, rules)
    if not body.keys() & (_FILES | KINDS.keys() | REFUSED.keys()):
        remedy = 'add `static_configs:` with `- labels: {__path__: "/var/log/*log"}`'
        reader.problem(node, f"job {name!r} has no static_configs: it would collect nothing", remedy)
    jobs = []
    if targets or files:
        found: Sequence[Target] = Discovered(targets, files, rules) if files else targets
        if isinstance(found, Discovered):
            found.current()
            for told in found.told:
                reader.remark(body["file_sd_configs"], f"file_sd_configs: {told}", "it is read again when it changes")
        jobs.append(Job(name, found, form, stages, encoding=encoding, decompression=decompression))
    elif form != "plain" and body.keys() & KINDS.keys():
        reader.problem(body["format"], "format is for files", "give it to a job with static_configs")
    for kind in sorted(body.keys() & KINDS.keys()):
        opener = KINDS[kind](reader, body[kind], name)
        if opener is not None:
            # Positions and spools are kept by a job's name; stages have state.
            own = Job(f"{name} {kind}" if jobs else name, (), stages=copy.deepcopy(stages) if jobs else stages)
            jobs.append(listening(replace(own, relabel=Relabeller(rules) if rules else None), opener, positions))
    return jobs


def _stages(reader: Reader, body: dict[str, Node]) -> tuple[Stage, ...]:
    return build_stages(reader, reader.sequence(body.get("pipeline_stages"), "pipeline_stages"))


def _static(reader: Reader, node: Node | None, job: str, rules: Sequence[Rule]) -> tuple[Target, ...]:
    groups = groups_of(reader, node, "static_configs")
    whole = [Group(group.labels, group.addresses or ("localhost",), group.line) for group in groups]
    made = targets_of(whole, rules)
    for line, why in dict.fromkeys(made.dropped):
        at = Node(None, line)
        if why == "it has no __path__" and not rules:
            remedy = 'add `__path__: "/var/log/*log"` to its labels'
            reader.problem(at, f"job {job!r} has a static_config without __path__", remedy)
        else:
            reader.remark(at, f"job {job!r}: a static_config collects nothing: {why}", "no files are read for it")
    return made.targets


def _decompression(reader: Reader, node: Node | None) -> Decompression | None:
    body = reader.mapping(node, "decompression", {"enabled", "initial_delay", "format"})
    form = reader.text(body.get("format"), "decompression.format") or None
    if form is not None and form not in _FORMATS:
        reader.problem(body["format"], f"decompression.format is {form!r}", f"write one of {', '.join(_FORMATS)}")
    delay = seconds(reader, body.get("initial_delay"), "decompression.initial_delay", 0.0)
    return Decompression(form, delay) if reader.flag(body.get("enabled"), "decompression.enabled") else None


def _encoding(reader: Reader, node: Node | None) -> str | None:
    text = reader.text(node, "encoding")
    if node is None or not text:
        return None
    try:
        "".encode(text)  # LookupError also for what is no encoding of text
    except LookupError:
        reader.problem(node, f"the encoding {text!r} is not known", "write an IANA name, such as utf-16le or shift_jis")
        return None
    return None if codecs.lookup(text).name in ("utf-8", "ascii") else text


def stdin_of(reader: Reader, node: Node | None, around: Around) -> tuple[Job, dict[str, str]]:
    """The job of standard input and its labels: the first job's stages, and the labels of its static_configs."""
    nodes = reader.sequence(node, "scrape_configs")
    if not nodes:
        labels = {"job": "stdin", "hostname": socket.gethostname()}
        return around.job(listening(Job("stdin", ()), opener(labels), around.positions)), labels
    if len(nodes) > 1:
        reader.remark(nodes[1], "standard input goes through the first job", "the others collect nothing")
    body = _body(reader, nodes[0])
    name = reader.text(body.get("job_name"), "job_name") or "stdin"
    merged: dict[str, str] = {}
    for group in groups_of(reader, body.get("static_configs"), "static_configs"):
        merged |= {key: value for key, value in group.labels.items() if not key.startswith("__")}
    labels = merged or {"job": name}
    job = Job(f"{name} stdin", (), stages=_stages(reader, body))
    return around.job(listening(job, opener(labels), around.positions)), labels
