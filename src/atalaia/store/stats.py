"""What a store holds: entries, streams, bytes, templates, growth. Asked beside whoever has the store open."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import numpy as np

from atalaia.environment.errors import AtalaiaError
from atalaia.store import sql, wal
from atalaia.store.batch import decode
from atalaia.store.catalogue import read_beside
from atalaia.store.held import Held
from atalaia.store.segment import Made
from atalaia.store.streams import Streams

_TRIES = 5
_TOP = 10


@dataclass(frozen=True, slots=True)
class TenantStats:
    """What segments have of a tenant. Sizes in bytes, times in ns since 1970."""

    tenant: str
    streams: int
    entries: int
    line_bytes: int
    oldest: int
    newest: int


@dataclass(frozen=True, slots=True)
class Day:
    """What came in a day (UTC, as days since 1970). `bytes` is on disk."""

    day: int
    entries: int
    line_bytes: int
    bytes: int


@dataclass(frozen=True, slots=True)
class TemplateStats:
    """A template of lines, its entries, and one of the lines."""

    template: str
    entries: int
    example: str


@dataclass(frozen=True, slots=True)
class Stats:
    """A store. Sizes in bytes on disk, but `line_bytes`; times in ns since 1970, None when there are no entries.

    `entries`, `line_bytes` and what follows from them are of segments; `log_entries` are in the write-ahead log only.
    `untold`: entries of segments with too many streams to tell whose they are. `templates` are distinct.
    """

    entries: int
    line_bytes: int
    log_entries: int
    streams: int
    segment_bytes: int
    index_bytes: int
    log_bytes: int
    catalogue_bytes: int
    levels: dict[int, int]
    oldest: int | None
    newest: int | None
    tenants: list[TenantStats]
    untold: int
    days: list[Day]
    deletions_open: int
    templates: int = 0
    top: list[TemplateStats] = field(default_factory=list)


def stats(directory: Path) -> Stats:
    """Look at the store in `directory`. Raises InputError where there is none, AtalaiaError when it cannot be read."""
    for _ in range(_TRIES):
        with closing(read_beside(directory)) as catalogue:
            every = catalogue.segments()
            streams = catalogue.load_streams()
            days = [Day(*row) for row in catalogue.growth()]
            open_ = sum(deletion.finished is None for deletion in catalogue.deletions())
            generation = catalogue.generation
        segments = [made.segment for made in every]
        try:
            templates, top = _templates([directory / "segments" / s.name for s in segments if s.level])
        except (duckdb.Error, OSError) as error:
            problem = error  # a segment was compacted meanwhile
            continue
        log_entries, log_bytes = _logs(directory / "wal", generation)
        return Stats(
            sum(s.rows for s in segments),
            sum(s.line_bytes for s in segments),
            log_entries,
            len(streams),
            sum(s.size for s in segments),
            sum(s.index_size for s in segments),
            log_bytes,
            sum(path.stat().st_size for path in directory.glob("catalogue.sqlite*")),
            dict(sorted(Counter(s.level for s in segments).items())),
            min((s.min_ts for s in segments), default=None),
            max((s.max_ts for s in segments), default=None),
            _tenants(every, streams),
            sum(made.segment.rows for made in every if made.held is None),
            days,
            open_,
            templates,
            top,
        )
    raise AtalaiaError(f"the segments at {directory} cannot be read: {problem}", "`atalaia store check` tells more")


def _tenants(every: Sequence[Made], streams: Streams) -> list[TenantStats]:
    parts = [made.held for made in every if made.held is not None]
    if not parts:
        return []
    held = Held.union(parts)
    owners = np.array([streams[int(number)].tenant for number in held.streams])
    found = []
    for tenant in np.unique(owners).tolist():
        of = owners == tenant
        times = int(held.min_ts[of].min()), int(held.max_ts[of].max())
        rows, size = held.rows[of].sum(dtype=np.int64), held.line_bytes[of].sum(dtype=np.int64)
        found.append(TenantStats(tenant, int(of.sum()), int(rows), int(size), *times))
    return found


def _templates(files: Sequence[Path]) -> tuple[int, list[TemplateStats]]:
    """How many templates compacted segments have, and the most frequent ones."""
    if not files:
        return 0, []
    source = f"read_parquet([{', '.join(sql.literal(str(path)) for path in files)}])"
    with duckdb.connect(config={"autoinstall_known_extensions": "false"}) as connection:
        connection.execute(
            f"CREATE TEMP TABLE found AS SELECT template, count(*) AS n FROM {source}"
            " WHERE template IS NOT NULL GROUP BY template"
        )
        count = connection.execute("SELECT count(*) FROM found").fetchall()[0][0]
        most = connection.execute(f"SELECT template, n FROM found ORDER BY n DESC, template LIMIT {_TOP}").fetchall()
        top = []
        for template, rows in most:
            (line,) = connection.execute(
                f"SELECT line FROM {source} WHERE template = {sql.literal(template)} LIMIT 1"
            ).fetchall()[0]
            top.append(TemplateStats(template, rows, line))
    return count, top


def _logs(folder: Path, generation: int) -> tuple[int, int]:
    """The entries in the write-ahead log that are in no segment, and the bytes of all logs."""
    entries = size = 0
    for path in sorted(folder.glob("*.wal")):
        try:
            size += path.stat().st_size
            if int(path.stem) <= generation:
                continue
            records = [record for record in wal.scan(path) if isinstance(record, wal.Record)]
        except FileNotFoundError:  # it is a segment now
            continue
        if records:
            # Entries are numbered as they come.
            entries += records[-1].seq + len(decode(records[-1].payload, most=None)[0]) - records[0].seq
    return entries, size
