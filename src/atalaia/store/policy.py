"""Which segments to compact next."""

from __future__ import annotations

from collections.abc import Sequence

from atalaia.store.segment import Segment

_MOST = 256 << 20  # bytes of lines of one compaction, and of a segment that is not compacted again
_BACKLOG = 16  # segments of level 0 that are compacted even while more come
_FEWEST = 4  # segments of level 1 that are worth a compaction
_DAY = 86_400 * 10**9


def next_inputs(segments: Sequence[Segment], idle: bool) -> list[Segment]:
    """What to compact together, oldest first; nothing when all is well."""
    fresh = sorted((s for s in segments if s.level == 0), key=lambda s: s.min_ts)
    if fresh and (idle or len(fresh) >= _BACKLOG):
        return _up_to(fresh)
    return _similar(sorted((s for s in segments if s.level > 0), key=lambda s: s.min_ts)) if idle else []


def _up_to(found: Sequence[Segment]) -> list[Segment]:
    """The first ones, up to about _MOST bytes of lines."""
    taken, size = [found[0]], found[0].line_bytes
    for one in found[1:]:
        size += one.line_bytes
        if size > _MOST:
            break
        taken.append(one)
    return taken


def _similar(found: Sequence[Segment]) -> list[Segment]:
    """The longest run of neighbours that fit into one segment, none of them more than half of it.

    Each entry is so written again about once for every doubling of its segment.
    """
    best: list[Segment] = []
    for start in range(len(found)):
        size = largest = 0
        for stop in range(start, len(found)):
            one = found[stop]
            size, largest = size + one.line_bytes, max(largest, one.line_bytes)
            span = one.max_ts - found[start].min_ts
            if size > _MOST or span > max(_DAY, one.max_ts - one.min_ts):
                break
            count = stop + 1 - start
            if count >= max(_FEWEST, len(best) + 1) and largest * 2 <= size:
                best = list(found[start : stop + 1])
    return best
