"""How fast a tenant may push, where that is bounded."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from atalaia.environment.errors import InputError

_BURST = 10.0  # seconds' worth that may come at once
_TENANTS = 10_000  # known at the most before those that owe nothing are forgotten


class TooFast(InputError):
    """A tenant pushes more than it may; `seconds` from now on it may again."""

    def __init__(self, tenant: str, rate: int, seconds: int) -> None:
        super().__init__(
            f"the tenant {tenant!r} pushes more than {rate} bytes a second",
            f"try again in {seconds} s, or raise push_rate",
        )
        self.seconds = seconds


class PushRate:
    """A bucket of ten seconds' worth for each tenant. One push may overdraw it, so that any size gets through."""

    def __init__(self, rate: int = 0, clock: Callable[[], float] = time.monotonic) -> None:
        """`rate`: bytes a second of lines, labels and metadata as they are unpacked; 0 for no bound."""
        self._rate = rate
        self._clock = clock
        self._buckets: dict[str, tuple[float, float]] = {}  # what is left, at that time

    def _left(self, tenant: str) -> float:
        left, at = self._buckets.get(tenant, (self._rate * _BURST, 0.0))
        return min(self._rate * _BURST, left + (self._clock() - at) * self._rate)

    def check(self, tenant: str) -> None:
        """Raises TooFast when nothing is left."""
        if self._rate and (left := self._left(tenant)) <= 0:
            raise TooFast(tenant, self._rate, max(1, math.ceil(-left / self._rate)))

    def spend(self, tenant: str, size: int) -> None:
        """A push of so many bytes goes in."""
        if self._rate:
            if len(self._buckets) > _TENANTS:
                full = [name for name in self._buckets if self._left(name) >= self._rate * _BURST]
                for name in full:
                    del self._buckets[name]
            self._buckets[tenant] = (self._left(tenant) - size, self._clock())
