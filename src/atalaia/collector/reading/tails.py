"""The files that are being read: found by name and inode, as many open as may be, and whose turn it is."""

from __future__ import annotations

import contextlib
import heapq
import os
import resource
from collections import OrderedDict
from collections.abc import Iterator

from atalaia.collector.reading.contents import Compressed, Content, Plain
from atalaia.collector.reading.tail import Tail

Key = tuple[str, int, int]
_BUDGET = 512  # open files, at most
_GONE = 512  # contents that are no longer there and whose last bytes may still be on their way


def budget() -> int:
    """How many files may be open: a half of what this process may have, `_BUDGET` at most."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _BUDGET if soft == resource.RLIM_INFINITY else max(8, min(_BUDGET, soft // 2))


class Tails:
    """All tails of a plan by key (job, device, inode). Used by the reading thread alone.

    `ready` are those that may have something to read, in the order of their turns; `orphans` have no name left.
    """

    def __init__(self) -> None:
        self.by_key: dict[Key, Tail] = {}
        self.by_id: dict[str, Tail] = {}
        self.ready: dict[Key, None] = {}
        self.orphans: dict[Key, Tail] = {}
        self._by_inode: dict[tuple[int, int], set[Key]] = {}
        self._by_path: dict[str, set[Key]] = {}
        self._paths: dict[Key, set[str]] = {}
        self._open: OrderedDict[Key, None] = OrderedDict()
        self._gone: OrderedDict[str, Tail] = OrderedDict()
        self._due: list[tuple[float, Key]] = []
        self._budget = budget()

    def __iter__(self) -> Iterator[Tail]:
        return iter(list(self.by_key.values()))

    def __len__(self) -> int:
        return len(self.by_key)

    def add(self, tail: Tail) -> None:
        """A new one, or one under a new key."""
        self.by_key[tail.key] = tail
        self.by_id[tail.known.id] = tail
        self._gone.pop(tail.known.id, None)
        self._by_inode.setdefault(tail.known.identity, set()).add(tail.key)
        self.name(tail, tail.known.path)
        self.name(tail, tail.known.real)
        self.ready[tail.key] = None
        if tail.orphan_since is not None:
            self.orphans[tail.key] = tail
        if tail.content is not None:
            self._open[tail.key] = None

    def orphan(self, tail: Tail, since: float | None) -> None:
        """It has no name that is looked for, since then (monotonic seconds); None: it has one."""
        if since is None:
            tail.orphan_since = None
            self.orphans.pop(tail.key, None)
        elif tail.orphan_since is None:
            tail.orphan_since = since
            self.orphans[tail.key] = tail

    def name(self, tail: Tail, path: str) -> None:
        """The file has this name, too."""
        self._by_path.setdefault(path, set()).add(tail.key)
        self._paths.setdefault(tail.key, set()).add(path)

    def remove(self, tail: Tail, gone: bool = False) -> None:
        """Out of the registry, not closed; `gone`: what it has on its way is still waited for."""
        key = tail.key
        self.by_key.pop(key, None)
        self.ready.pop(key, None)
        self.orphans.pop(key, None)
        self._open.pop(key, None)
        self._by_inode.get(tail.known.identity, set()).discard(key)
        if not self._by_inode.get(tail.known.identity):
            self._by_inode.pop(tail.known.identity, None)
        for path in self._paths.pop(key, ()):
            keys = self._by_path[path]
            keys.discard(key)
            if not keys:
                del self._by_path[path]
        if not gone:
            self.by_id.pop(tail.known.id, None)
            return
        self._gone[tail.known.id] = tail
        while len(self._gone) > _GONE:
            oldest, _ = self._gone.popitem(last=False)
            self.by_id.pop(oldest, None)

    def is_gone(self, known_id: str) -> bool:
        """Whether that content is not being read from any file."""
        return known_id not in self.by_id or known_id in self._gone

    def at(self, path: str) -> set[Key]:
        """Those with this name."""
        return self._by_path.get(path, set())

    def paths(self, tail: Tail) -> set[str]:
        """The names that it had and may have."""
        return self._paths.get(tail.key, set())

    def of_inode(self, identity: tuple[int, int]) -> set[Key]:
        """Those of this file."""
        return self._by_inode.get(identity, set())

    def wake(self, key: Key) -> None:
        """It may have something to read."""
        if key in self.by_key:
            self.ready.setdefault(key, None)

    def wake_at(self, due: float, tail: Tail) -> None:
        """It is to be looked at then (monotonic seconds)."""
        heapq.heappush(self._due, (due, tail.key))

    def wake_due(self, now: float) -> None:
        """Those whose time has come are ready."""
        while self._due and self._due[0][0] <= now:
            self.wake(heapq.heappop(self._due)[1])

    @property
    def next_due(self) -> float | None:
        """When `wake_due` is to be called next."""
        return self._due[0][0] if self._due else None

    def opened(self, tail: Tail) -> bool:
        """Open the file again if it was closed for want of descriptors; False: it is not where it was."""
        if tail.content is not None:
            self._open.move_to_end(tail.key)
            return True
        self.make_room()
        for path in (tail.known.path, tail.known.real, *self._paths.get(tail.key, ())):
            with contextlib.suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
                status = os.fstat(descriptor)
                if (status.st_dev, status.st_ino) == tail.known.identity:
                    tail.content = content_of(descriptor, tail.kind)
                    self._open[tail.key] = None
                    return True
                os.close(descriptor)
        return False

    def shut(self, tail: Tail) -> None:
        """Close its file; it is opened again when it is its turn."""
        tail.close()
        self._open.pop(tail.key, None)

    def make_room(self) -> None:
        """Before a file is opened: close those that were not served for the longest time, while there are too many."""
        while len(self._open) >= self._budget:
            # What has no name could not be opened again; compressed ones would have to begin anew.
            idle = (
                tail
                for tail in map(self.by_key.__getitem__, self._open)
                if tail.orphan_since is None and (tail.kind is None or tail.drained())
            )
            if (oldest := next(idle, None)) is None:
                return
            self.shut(oldest)

    def close(self) -> None:
        """Close all files."""
        for tail in self:
            tail.close()


def content_of(descriptor: int, kind: str | None) -> Content:
    """What an open file holds; `kind`: its compression."""
    return Plain(descriptor) if kind is None else Compressed(descriptor, kind)
