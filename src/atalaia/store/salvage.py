"""What is left of damaged files: the entries that can still be read, and a place for the files themselves."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from atalaia.environment.state import sync_directory
from atalaia.store import wal
from atalaia.store.batch import decode
from atalaia.store.segment import Segment
from atalaia.store.verify import UNREADABLE, groups
from atalaia.store.wal import Cut, LogFile, Record

FOLDER = "damaged"


@dataclass(frozen=True, slots=True)
class Repaired:
    """What was done about a file, and the entries that are lost with it (None: how many is not known).

    They are from `start` to `end` (ns since 1970, both included) and of streams with these labels, as far as known.
    """

    file: str
    done: str
    lost: int | None = 0
    start: int | None = None
    end: int | None = None
    streams: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Salvaged:
    """The readable entries of a segment (memory.SCHEMA), their streams' labels, and when (ns) the lost ones were."""

    entries: pa.Table | None
    labels: Mapping[int, str]
    start: int
    end: int


def salvage(path: Path, bounds: Segment) -> Salvaged:
    """Read what can be read of a damaged or missing segment; `bounds` is its row in the catalogue."""
    good: list[pa.Table] = []
    labels: dict[int, str] = {}
    bad: list[tuple[int, int]] = []
    try:
        for group in groups(path, bounds):
            if group.entries is None:
                bad.append((group.min_ts, group.max_ts))
            else:
                good.append(group.entries)
                labels |= group.labels
    except UNREADABLE:
        bad.append((bounds.min_ts, bounds.max_ts))
    return Salvaged(
        pa.concat_tables(good) if good else None,
        labels,
        min((low for low, _ in bad), default=bounds.min_ts),
        max((high for _, high in bad), default=bounds.max_ts),
    )


def keep(root: Path, path: Path) -> None:
    """Give a file a second name in FOLDER of the store `root`, so that it stays when the first one goes."""
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    names = (f"{path.name}.{number}" if number else path.name for number in itertools.count())
    target = next(folder / name for name in names if not (folder / name).exists())
    os.link(path, target)
    sync_directory(folder)


def salvage_logs(root: Path, dry_run: bool) -> Iterator[Repaired]:
    """Write the damaged ones of the write-ahead logs anew, with all of their whole records."""
    for path in sorted((root / "wal").glob("*.wal")):
        found = list(wal.intact(path))
        cuts = [one for one in found if isinstance(one, Cut)]
        if not cuts:
            continue
        records = [one for one in found if isinstance(one, Record)]
        if not dry_run:
            keep(root, path)
            partial = path.with_suffix(".partial")
            partial.unlink(missing_ok=True)
            log = LogFile(partial)
            log.append(records)
            log.close()
            partial.replace(path)
            sync_directory(path.parent)
        places = ", ".join(f"{cut.lost} from byte {cut.offset} on" for cut in cuts)
        lost = None if isinstance(found[-1], Cut) or isinstance(found[0], Cut) else _missing(records)
        yield Repaired(f"wal/{path.name}", f"{len(records)} whole records kept; bytes left out: {places}", lost)


def _missing(records: list[Record]) -> int:
    """The entries between records that follow one another in a log: `seq` counts all of them."""
    ends = [record.seq + len(decode(record.payload, most=None)[0]) for record in records]
    return sum(record.seq - end for record, end in zip(records[1:], ends, strict=False))
