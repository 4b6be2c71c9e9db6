"""Batches and blocks for tests of stages that drop, join or count."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from atalaia.collector import pipeline
from atalaia.collector.entries import Entries, label_sets
from atalaia.collector.meters import Meters
from atalaia.collector.plan import Job
from atalaia.collector.stages.registry import build_stages
from atalaia.collector.stages.stage import Stage
from atalaia.environment.yamlfile import Reader

READ = 1_700_000_000_000_000_000


def made(
    lines: Sequence[str], labels: Mapping[str, object] | None = None, extracted: Mapping[str, object] | None = None
) -> Entries:
    def columns(given: Mapping[str, object] | None) -> dict:
        return {k: v if isinstance(v, str) else pa.array(v, pa.utf8()) for k, v in (given or {}).items()}

    found = columns(labels)
    return Entries(
        pa.array(lines, pa.utf8()), READ + np.arange(len(lines)), found, {**found, **columns(extracted)}, flush=1 << 62
    )


def built(text: str) -> tuple[tuple[Stage, ...], list[str]]:
    """The stages of a YAML text, and what is wrong with it."""
    reader = Reader(Path("promtail.yaml"))
    root = reader.load(text)
    stages = build_stages(reader, reader.sequence(root, "stages"))
    return stages, [f"{problem.line}: {problem.message}" for problem in reader.problems]


def stage(text: str) -> Stage:
    """The one stage of a YAML text."""
    stages, problems = built(text)
    assert not problems, problems
    (found,) = stages
    return found


def rows(entries: Entries) -> list[tuple[dict, str, int]]:
    """Labels, line and time of each entry."""
    sets = label_sets(entries.labels, len(entries))
    return [
        (json.loads(text), line, ts)
        for text, line, ts in zip(sets.to_pylist(), entries.lines.to_pylist(), entries.ts.tolist(), strict=True)
    ]


def in_pieces(
    stages: Sequence[Stage], lines: Sequence[str], ends: Sequence[int], flushes: Mapping[int, int] | None = None
) -> tuple[list[tuple[dict, str, int]], Meters]:
    """What a collector makes of lines that become visible up to `ends`, one after the other; then nothing comes.

    `flushes`: at the read with this number, lines before this one (counted from the first of all) have waited enough.
    """
    job = Job("j", (), stages=tuple(stages))
    meters = Meters()
    position, found = 0, []
    for number, end in enumerate([*ends, len(lines), len(lines)]):
        if end <= position:
            continue
        block = "".join(f"{line}\n" for line in lines[position:end]).encode()
        flush = max(0, (flushes or {}).get(number, 0) - position)
        if number == len(ends) + 1:
            flush = pipeline.ALL
        taken = pipeline.run(job, block, READ, {"job": "j"}, flush)
        pipeline.settle(taken, meters)
        assert taken.lines <= end - position
        found += rows(taken.entries)
        position += taken.lines
    assert position == len(lines)
    return found, meters
