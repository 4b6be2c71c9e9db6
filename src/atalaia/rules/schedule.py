"""At which moments a group is evaluated. Each group has its own place within its interval, the same after a restart."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from atalaia.rules.model import Placed


@dataclass(frozen=True, slots=True)
class Schedule:
    """Every `interval` ns, `place` ns behind its multiples since 1970."""

    interval: int
    place: int

    def latest(self, now: int) -> int:
        """The last moment that is not after `now`."""
        return now - (now - self.place) % self.interval

    def after(self, now: int) -> int:
        """The first moment that is after `now`."""
        return self.latest(now) + self.interval

    def missed(self, due: int, now: int) -> int:
        """How many moments from `due` on have passed unused when only the latest one is evaluated."""
        return max((self.latest(now) - due) // self.interval, 0)


def schedule_of(placed: Placed) -> Schedule:
    """Groups are spread over their interval by their names."""
    digest = hashlib.blake2b("\0".join(placed.key).encode(), digest_size=8).digest()
    # In whole milliseconds, as samples have them.
    return Schedule(placed.group.interval, int.from_bytes(digest, "big") % (placed.group.interval // 10**6) * 10**6)
