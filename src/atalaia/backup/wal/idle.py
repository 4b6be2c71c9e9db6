"""Whether nothing was committed after a target time, although the archive reaches it: then all of it is wanted.

PostgreSQL takes a time for reached only when something was committed later, and fails otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from atalaia.backup.model import Target
from atalaia.backup.wal.archive import Archive
from atalaia.backup.wal.dump import ENDED, dump
from atalaia.backup.wal.segment import Segment
from atalaia.postgres.cluster import Cluster

_MOST = 16  # segments that are looked at, from the end
_ENDED = re.compile(f"desc: {ENDED}")


def after(archive: Archive, way: Sequence[Segment], target: Target, cluster: Cluster) -> bool:
    """Whether the archive is known to reach a target's time, and has nothing that was committed or ended after it."""
    if not way or not target.time:
        return False
    covered = archive.covered(way[-1].timeline)
    if covered is None or covered < target.time:
        return False
    last = _last(archive, way, cluster)
    return last is not None and (last <= target.time if target.inclusive else last < target.time)


def _last(archive: Archive, way: Sequence[Segment], cluster: Cluster) -> datetime | None:
    """When the last transaction of the WAL ended, as pg_waldump tells; None when it does not."""
    # Back from the end: most often the last segment has a commit.
    for each in reversed([one for one in way if one.timeline == way[-1].timeline][-_MOST:]):
        lines = dump(archive, [each], cluster, ["Transaction"])
        if lines is None:
            return None
        if found := _ENDED.findall("\n".join(lines)):
            return max(datetime.fromisoformat(f"{text}+00:00") for text in found)
    return None
