"""Leaves out of a pipeline what nobody reads: a group of a regex that no later stage uses is not taken out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from atalaia.collector.stages.stage import Stage
from atalaia.collector.stages.text import Regex


def narrowed(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The same pipeline; a stage that may read anything (`reads` is None) keeps all before it whole."""
    wanted: frozenset[str] | None = frozenset()
    kept: list[Stage] = []
    for stage in reversed(stages):
        if isinstance(stage, Regex) and wanted is not None:
            stage = replace(stage, wanted=wanted)
        kept.append(stage)
        reads = stage.reads()
        wanted = None if wanted is None or reads is None else wanted | reads
    return tuple(reversed(kept))
