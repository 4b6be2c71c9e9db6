"""What the tests of stages have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from atalaia.collector.entries import Entries
from atalaia.collector.stages.registry import build_stages
from atalaia.collector.stages.stage import Stage
from atalaia.environment.yamlfile import Reader

READ = 10**18


def made(lines: Sequence[str], labels: Mapping[str, object] | None = None, **extracted: object) -> Entries:
    """Entries read a nanosecond apart; lists become columns."""

    def columns(values: Mapping[str, object]) -> dict:
        return {k: pa.array(v, pa.utf8()) if isinstance(v, list) else v for k, v in values.items()}

    own = columns(labels or {})
    ts = READ + np.arange(len(lines), dtype=np.int64)
    return Entries(pa.array(lines, pa.utf8()), ts, own, extracted={**own, **columns(extracted)})


def extracted(entries: Entries) -> dict[str, list[str | None]]:
    return {name: entries.source(name).to_pylist() for name in entries.extracted}


def labels(entries: Entries) -> list[str]:
    return entries.record_batch().column("labels").to_pylist()


def built(text: str) -> tuple[list[Stage], list[tuple[int, str]]]:
    """The stages of some YAML, and its problems with their lines."""
    reader = Reader(Path("/etc/promtail.yaml"))
    root = reader.load(text)
    stages = build_stages(reader, reader.sequence(root, "pipeline_stages"))
    return list(stages), [(problem.line, problem.message) for problem in reader.problems]


def stage(text: str) -> Stage:
    (found,), problems = built(text)
    assert not problems
    return found
