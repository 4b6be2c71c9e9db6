"""Where streaming begins, so that the archive goes on without a hole as long as the server has what comes next."""

from __future__ import annotations

from typing import Any

import psycopg

from atalaia.backup.wal import segment
from atalaia.backup.wal.archive import Archive, OtherWal
from atalaia.backup.wal.segment import HISTORY, Segment
from atalaia.backup.wal.slot import Source
from atalaia.backup.wal.spool import Spool
from atalaia.environment.errors import AtalaiaError


def place(connection: psycopg.Connection[Any], source: Source, spool: Spool, archive: Archive | None) -> None:
    """Prepare the spool for pg_receivewal, which goes on behind the newest file there, else where the slot says.

    Raises OtherWal when the server stands before what is archived of it, AtalaiaError when the repository is needed.
    """
    goes_on = spool.next()
    if goes_on and (goes_on.timeline != source.timeline or _gone(goes_on, source)):
        # The server goes on along another timeline, or has not got any more what comes next.
        if archive is None:
            raise AtalaiaError(
                "the server does not go on where the spool ends, and what is in the spool is not archived yet",
                "streaming goes on when the repository answers",
            )
        spool.carry(archive)
        spool.carry_partial(archive, None, now=True)
        spool.clear()
        goes_on = None
    if archive is None:
        return
    wanted = _wanted(connection, source, archive)
    if wanted is None:
        return
    if wanted.start > source.position + source.segment_size:
        raise OtherWal(
            f"the server is at {segment.show(source.position)}, its archive already at {segment.show(wanted.start)} of "
            f"the same timeline {source.timeline}: an old copy of it was started",
            "give it another name in atalaia.toml and make a physical backup; what is archived stays as it is",
        )
    if not goes_on and wanted.name in source.names:
        spool.begin_at(wanted)


def _gone(wanted: Segment, source: Source) -> bool:
    """Whether the server has removed a segment. One that it has not begun yet is not gone."""
    return wanted.name not in source.names and wanted.end <= source.position


def _wanted(connection: psycopg.Connection[Any], source: Source, archive: Archive) -> Segment | None:
    """The segment behind the archive's newest on the server's way here; None when it has nothing of it."""
    mine = [each for each in archive.wholes if each.timeline == source.timeline]
    if mine:
        return max(mine).next
    partial = [each for each in archive.partials if each.timeline == source.timeline]
    if partial:
        return max(partial)
    if source.timeline == 1:
        return None
    row = connection.execute("SELECT pg_read_file(%s)", (f"pg_wal/{source.timeline:08X}{HISTORY}",)).fetchone()
    forks = segment.history(row[0].encode()) if row else ()
    older = {each.timeline for each in archive.wholes | archive.partials}
    if not forks or forks[-1].timeline not in older:
        return None
    return segment.at(source.timeline, forks[-1].position, source.segment_size)
