"""DROP DATABASE removes the files before it commits: a recovery to just before that commit must stop earlier.

dropdb() marks the database as invalid at once (since 15.4), writes a record that removes its files when it is replayed,
and commits then. Recovery that stops at a time looks at commits only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from atalaia.backup.model import Target
from atalaia.backup.wal.archive import Archive
from atalaia.backup.wal.dump import ENDED, dump
from atalaia.backup.wal.segment import Segment, lsn, show
from atalaia.postgres.cluster import Cluster

_AT_ONCE = 128 << 20  # bytes of WAL
_RECORD = re.compile(rf"lsn: (?P<lsn>[0-9A-F]+/[0-9A-F]+), .*?desc: (?:DROP dir (?P<folders>[\d/ ]+)|{ENDED})")


@dataclass(frozen=True, slots=True)
class Dropping:
    """`lsn`: the record that removes files; `databases`: the OIDs of those that go before the next commit."""

    lsn: str
    databases: frozenset[int]


def before(
    archive: Archive, way: Sequence[Segment], target: Target, cluster: Cluster, earliest: int
) -> Dropping | None:
    """What goes between the last commit before a target's time and the first one after it, where recovery stops.

    Nothing is lost by stopping at its `lsn` (exclusive), which is not before `earliest`. None when nothing goes there,
    or when it cannot be told. Raises PlaceError.
    """
    if not target.time:
        return None
    begin = max(0, _first(archive, way, target.time) - 1)
    found: dict[int, frozenset[int]] = {}  # since the last commit, by LSN
    while begin < len(way):
        count = max(2, _AT_ONCE // way[begin].size)
        window = [each for each in way[begin : begin + count] if each.timeline == way[begin].timeline]
        lines = dump(archive, window, cluster, ["Database", "Transaction"])
        if lines is None:
            return None
        for record in filter(None, map(_RECORD.search, lines)):
            if folders := record["folders"]:
                found[lsn(record["lsn"])] = frozenset(int(one.rpartition("/")[2]) for one in folders.split())
                continue
            at = datetime.fromisoformat(f"{record['at']}+00:00")
            if at > target.time or (at == target.time and not target.inclusive):
                if not found or min(found) < earliest:
                    return None
                return Dropping(show(min(found)), frozenset().union(*found.values()))
            found.clear()
        # The last segment again: a record may go on in the next one.
        begin += max(1, len(window) - 1) if begin + len(window) < len(way) else len(window)
    return None


def _first(archive: Archive, way: Sequence[Segment], time: datetime) -> int:
    """The first segment that may have a commit of that time or later: those received before it have none."""
    low, high = 0, len(way)
    while low < high:
        middle = (low + high) // 2
        each = way[middle]
        if each in archive.wholes and archive.received(each.name) < time:
            low = middle + 1
        else:
            high = middle
    return low
