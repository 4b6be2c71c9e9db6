"""How far a collector is behind in its files: bytes, and seconds since the oldest unacknowledged byte was seen."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

_LOOKS = 32  # that are remembered of a file; of more every second one


@dataclass(frozen=True, slots=True)
class Standing:
    """A file that is read: `offset` of its bytes are acknowledged. `identity`: device and inode.

    `packed`: it is compressed, and `offset` is one of what it holds; nobody knows how far behind it is.
    """

    id: str
    path: str
    job: str
    offset: int
    identity: tuple[int, int]
    packed: bool = False


@dataclass(frozen=True, slots=True)
class FileLag:
    """Of `size` bytes `behind` are not acknowledged, the oldest of them for `seconds`, to the interval of the looks."""

    path: str
    job: str
    size: int
    behind: int
    seconds: float


@dataclass(slots=True)
class Lagging:
    """Looks at files now and then, and remembers what it saw."""

    _looks: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)

    def look(
        self,
        files: Iterable[Standing],
        clock: Callable[[], float] = time.monotonic,
        size_of: Callable[[Standing], int | None] | None = None,
    ) -> list[FileLag]:
        """The lag of each file that is still under its name."""
        began = clock()
        found, seen = [], {}
        for file in files:
            size = (size_of or _size)(file)
            if size is None:
                continue
            looks = self._looks.get(file.id) or deque()
            # A look is done with once all that it saw is acknowledged; what the oldest one left saw waits since then.
            while looks and looks[0][1] <= file.offset:
                looks.popleft()
            behind = 0 if file.packed else max(0, size - file.offset)
            if behind and (not looks or looks[-1][1] < size):
                looks.append((began, size))
                if len(looks) > _LOOKS:
                    looks = deque([looks[0], *list(looks)[1::2]])
            if looks:
                seen[file.id] = looks
            since = looks[0][0] if behind and looks else began
            found.append(FileLag(file.path, file.job, size, behind, max(0.0, began - since)))
        self._looks = seen
        return found


def _size(file: Standing) -> int | None:
    """The size of the file, if it is still the one of this name."""
    try:
        status = os.stat(file.path)
    except OSError:
        return None
    return status.st_size if (status.st_dev, status.st_ino) == file.identity else None
