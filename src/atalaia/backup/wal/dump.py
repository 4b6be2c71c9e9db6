"""What pg_waldump says of archived WAL."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from atalaia.backup.wal.archive import Archive
from atalaia.backup.wal.segment import PARTIAL, Segment, show
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.tools import run

# What pg_waldump says of a record that ends a transaction; `at` is when, in UTC.
ENDED = r"(?:COMMIT|ABORT)\w* (?:\d+: )?(?P<at>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+) UTC"


def dump(archive: Archive, segments: Sequence[Segment], cluster: Cluster, managers: Sequence[str]) -> list[str] | None:
    """Lines on the records of some resource managers in neighbouring segments of one timeline, times in UTC.

    The server's own pg_waldump reads them. None when it is not there, or a segment cannot be read.
    """
    program = cluster.installation.program("pg_waldump")
    first = segments[0]
    with tempfile.TemporaryDirectory(prefix="atalaia-wal-") as name:
        try:
            for each in segments:
                raw = archive.read(each.name + (PARTIAL if each in archive.partials else ""))
                Path(name, each.name).write_bytes(raw + bytes(each.size - len(raw)))
            # Where the segments end it ends with an error, which says nothing of what is before.
            done = run(
                [
                    *(program, f"--path={name}", f"--timeline={first.timeline}", f"--start={show(first.start)}"),
                    *(f"--rmgr={manager}" for manager in managers),
                ],
                extra={"TZ": "UTC"},
                seconds=3600,
            )
        except (AtalaiaError, OSError):
            return None
    return done.stdout.splitlines()
