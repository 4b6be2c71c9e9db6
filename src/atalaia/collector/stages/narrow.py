"""Leaves out of a pipeline what nobody reads: a group of a regex that no later stage uses is not taken out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from atalaia.collector.entries import Entries
from atalaia.collector.stages.labels import Labels, StaticLabels, Timestamp
from atalaia.collector.stages.text import Json, Regex

Stage = Callable[[Entries], Entries]


def narrowed(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    """The same pipeline; a stage that this does not know may read anything."""
    wanted: set[str] | None = set()
    kept: list[Stage] = []
    for stage in reversed(stages):
        if isinstance(stage, Regex) and wanted is not None:
            stage = replace(stage, wanted=frozenset(wanted))
        kept.append(stage)
        reads = _reads(stage)
        wanted = None if wanted is None or reads is None else wanted | reads
    return tuple(reversed(kept))


def _reads(stage: Stage) -> set[str] | None:
    """The extracted values that a stage reads; None when that cannot be told."""
    match stage:
        case Regex() | Json():
            return {stage.source} if stage.source else set()
        case Timestamp():
            return {stage.source}
        case Labels():
            return {source or label for label, source in stage.names.items()}
        case StaticLabels():
            return set()
    return None
