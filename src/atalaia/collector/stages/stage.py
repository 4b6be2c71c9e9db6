"""What a stage is, and how it is made of its node in promtail.yaml."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from atalaia.collector.entries import Entries
from atalaia.environment.yamlfile import Node, Reader


class StageError(ValueError):
    """A stage's configuration cannot be used; the message says why."""


class Stage(Protocol):
    """Works on a whole batch. `name` is Promtail's. A stage may keep state between batches; one thread calls it."""

    @property
    def name(self) -> str:
        """Its key in promtail.yaml."""

    def __call__(self, entries: Entries) -> Entries:
        """The entries behind this stage."""

    def reads(self) -> frozenset[str] | None:
        """The extracted values that it reads; None: any."""


@runtime_checkable
class Waiting(Protocol):
    """A stage that holds lines back until the entry that they belong to is complete."""

    @property
    def wait(self) -> float:
        """Seconds without further lines after which what was held back is taken as complete."""


# Makes the stages of a nested pipeline (match).
Build: TypeAlias = "Callable[[Sequence[Node]], tuple[Stage, ...]]"
# Makes one stage of its node. Problems are told to the reader, with their line; StageError, LayoutError: of the whole.
Builder: TypeAlias = "Callable[[Reader, Node, Build], Stage]"


def needed(reader: Reader, stage: str, body: dict[str, Node], key: str) -> str:
    """A text that a stage cannot do without. Raises StageError."""
    found = reader.text(body.get(key), f"{stage}.{key}")
    if not found:
        raise StageError(f"it needs {key!r}")
    return found
