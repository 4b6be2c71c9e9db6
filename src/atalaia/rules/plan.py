"""How rules are worked: which files, which receivers, under which name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from atalaia.environment.connection import Connection


@dataclass(frozen=True, slots=True)
class Patience:
    """`least` to `most` s between attempts, twice as long each time; `stop` s for what waits when we end."""

    least: float = 1.0
    most: float = 60.0
    stop: float = 2.0


@dataclass(frozen=True, slots=True)
class Plan:
    """Globs of rule files, receivers, `labels` of all that is sent, and the address at which we are asked."""

    files: tuple[str, ...] = ()
    alertmanagers: tuple[Connection, ...] = ()
    remote_write: Connection | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    url: str = ""
    patience: Patience = field(default_factory=Patience)
