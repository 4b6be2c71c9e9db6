"""Retention by age and by total size, whichever comes first, in whole segments."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from atalaia.store.segment import Segment


@dataclass(frozen=True, slots=True)
class Retention:
    """`age` in nanoseconds, `size` in bytes on disk; None for no bound."""

    age: int | None = None
    size: int | None = None


def expired(segments: Sequence[Segment], retention: Retention, now: int | None = None) -> list[Segment]:
    """The segments whose newest entry is too old, and the oldest ones beyond the size. `now`: ns since 1970."""
    moment = time.time_ns() if now is None else now
    newest_first = sorted(segments, key=lambda s: s.max_ts, reverse=True)
    gone, total = [], 0
    for found in newest_first:
        total += found.size
        too_old = retention.age is not None and found.max_ts < moment - retention.age
        too_much = retention.size is not None and total > retention.size
        if too_old or too_much:
            gone.append(found)
    return gone
