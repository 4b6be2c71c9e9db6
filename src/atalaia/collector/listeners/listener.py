"""What a listener is: a source that is not a file, and that appends what it receives to its job's spool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Listener(Protocol):
    """Runs in threads of its own. Its labels begin with `__` where Promtail's do; relabelling follows."""

    def start(self) -> None:
        """Begin; returns once it listens. Raises InputError when it cannot (a port is taken, a program is missing)."""

    def stop(self) -> None:
        """End it; what was received is in the spool when this returns."""

    def targets(self) -> Sequence[Mapping[str, str]]:
        """What it takes from now, each with its labels and `state`, for /targets."""
