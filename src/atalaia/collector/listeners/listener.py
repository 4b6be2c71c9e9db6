"""What a listener is: a source that is not a file, and that appends what it receives to its job's spool."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias

from atalaia.collector.listeners.spool import Spool
from atalaia.collector.meters import Meters
from atalaia.environment.yamlfile import Node, Reader


class Listener(Protocol):
    """Runs in threads of its own. Its labels begin with `__` where Promtail's do; relabelling follows."""

    def start(self) -> None:
        """Begin; returns once it listens. Raises InputError when it cannot (a port is taken, a program is missing)."""

    def stop(self) -> None:
        """End it; what was received is in the spool when this returns."""

    def targets(self) -> Sequence[Mapping[str, str]]:
        """What it takes from now, each with its labels and `state`, for /targets."""


# Makes a job's listener, not started yet.
Opener: TypeAlias = "Callable[[Spool, Meters], Listener]"
# Makes the opener of the node below a kind's key in a scrape config; the name is the job's. None: the reader knows why.
Builder: TypeAlias = "Callable[[Reader, Node, str], Opener | None]"
