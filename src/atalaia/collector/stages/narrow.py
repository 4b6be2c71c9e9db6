"""Leaves out of a pipeline what nobody reads: a group of a regex, a key of a json stage that no later stage uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from atalaia.collector.stages.stage import Stage


@runtime_checkable
class Narrowing(Protocol):
    """A stage that can leave out extracted values."""

    def narrowed(self, wanted: frozenset[str]) -> Stage:
        """The same stage, which need not extract others than these."""


def narrowed(stages: Sequence[Stage], wanted: frozenset[str] | None = frozenset()) -> tuple[Stage, ...]:
    """The same pipeline, behind which `wanted` is read (None: anything).

    A stage that may read anything (`reads` is None) keeps all before it whole.
    """
    kept: list[Stage] = []
    for stage in reversed(stages):
        if isinstance(stage, Narrowing) and wanted is not None:
            stage = stage.narrowed(wanted)
        kept.append(stage)
        reads = stage.reads()
        wanted = None if wanted is None or reads is None else wanted | reads
    return tuple(reversed(kept))
