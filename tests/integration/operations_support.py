"""A store with everything in it: write-ahead log, segments of both levels, tenants, metadata, odd lines."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.integration.logs_support import opened, wait_for

from atalaia.store import compact, segment
from atalaia.store.batch import METADATA, SCHEMA, Source, canonical, encode
from atalaia.store.catalogue import read_beside
from atalaia.store.copying import snapshot
from atalaia.store.export import export
from atalaia.store.manifest import Kind, Manifest, Wanted
from atalaia.store.options import Options
from atalaia.store.store import Store

TENANTS = ("fake", "other")
ODD = ("", "\0", "two\nlines", 'quote " \\ and {"json": 1}', "\u2028 \U0001f600 ünïcode", "x" * 2000)
SLOW = Options(idle_seconds=3600.0)
Row = tuple[str, int, str, str, tuple[tuple[str, str], ...] | None]


def batch(rng: random.Random, rows: int, ts: int) -> pa.Table:
    """Entries of a few streams, from the second `ts` on; some are the same."""
    labels = [canonical({"job": rng.choice("abc"), "host": "é"}) for _ in range(rows)]
    lines = [rng.choice(ODD) if rng.random() < 0.1 else f"entry {n} of {rng.getrandbits(400)}" for n in range(rows)]
    metadata = [[("pid", str(rng.randrange(9))), ("é\0", "")] if rng.random() < 0.5 else None for _ in range(rows)]
    columns = [
        pa.array([ts * 10**9 + rng.randrange(50) for _ in range(rows)], pa.int64()),
        pa.array(labels, pa.utf8()).dictionary_encode(),
        pa.array(lines, pa.utf8()),
        pa.array(metadata, METADATA),
    ]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def push(store: Store, table: pa.Table, tenant: str, *sources: Source) -> None:
    """Push as the server does; returns once the entries are durable."""
    assert store.append(table, tenant, sources, encode(table)).result(20).rows == len(table)


def make(directory: Path, rng: random.Random) -> None:
    """A store with a log, two segments of level 0 and one of level 1, each of several row groups."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segment, "ROW_GROUP_BYTES", 1)
        patch.setattr(compact, "BAND_BYTES", 100_000)
        with opened(directory, Options(idle_seconds=0.02)) as store:
            for tenant in TENANTS:
                push(store, batch(rng, 2500, 1), tenant, Source(f"file {tenant}", 0, 7))
            store.flush()
            wait_for(lambda: store.settled and store.deletions() == [] and _levels(directory) == {1: 1})
        with opened(directory, SLOW) as store:
            for second in (2, 3):
                for tenant in TENANTS:
                    push(store, batch(rng, 1100, second), tenant)
                store.flush()
            for number, second in enumerate((4, 4, 5)):
                for tenant in TENANTS:
                    push(store, batch(rng, 40, second), tenant, Source(f"late {tenant}", number, number + 1))
            snapshot(directory, directory.with_name(f"{directory.name}.copy"))
    # A store that was closed has no log; its snapshot has.
    directory.rename(directory.with_name(f"{directory.name}.closed"))
    directory.with_name(f"{directory.name}.copy").rename(directory)


def _levels(directory: Path) -> dict[int, int]:
    with closing(read_beside(directory)) as catalogue:
        return dict(Counter(made.segment.level for made in catalogue.segments()))


def no_progress(done: int, total: int = 0) -> None:
    """Nobody looks."""


def exported(directory: Path, target: Path, kind: Kind = Kind.PARQUET, **wanted: object) -> Manifest:
    """An export of everything, or of what is `wanted`."""
    return export(directory, target, Wanted(kind=kind, **wanted), no_progress)  # type: ignore[arg-type]


def contents(directory: Path, scratch: Path) -> list[Row]:
    """All entries of a store that nobody has open, in order; the store is as it was afterwards."""
    made = exported(directory, scratch)
    return rows([scratch / part.name for part in made.parts])


def rows(files: list[Path]) -> list[Row]:
    """The entries of exported Parquet files."""
    found = []
    for path in files:
        for row in pq.read_table(path).to_pylist():
            metadata = None if row["metadata"] is None else tuple(sorted(row["metadata"]))
            found.append((row["tenant"], row["ts"], row["labels"], row["line"], metadata))
    return found
