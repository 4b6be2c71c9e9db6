"""The entries of a store that nobody has open, in the order of (ts, seq), with their tenants and labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from atalaia.store import recovery
from atalaia.store.catalogue import Catalogue
from atalaia.store.compact import merged
from atalaia.store.deletion import Eraser
from atalaia.store.options import Options
from atalaia.store.segment import Made, labels_of
from atalaia.store.store import Store
from atalaia.store.streams import Streams


@dataclass(frozen=True, slots=True)
class Selection:
    """Entries of [start, end) ns, of one tenant or of all, behind the entry `after` (ts, seq)."""

    start: int
    end: int
    tenant: str | None = None
    after: tuple[int, int] | None = None


def settle(directory: Path) -> None:
    """Make a segment of what the write-ahead log still holds."""
    Store(directory, Options()).close()


def entries_in_order(directory: Path, wanted: Selection, progress: Callable[[int, int], None]) -> Iterator[pa.Table]:
    """Tables of any size with the columns tenant, ts, labels, line, metadata, seq; deleted entries are left out.

    Only what is in segments (see `settle`). `progress` is told the entries read and those there are. Memory is bounded
    by the row groups that overlap in time.
    """
    descriptor = recovery.lock(directory)
    try:
        with closing(Catalogue(directory / "catalogue.sqlite", read_only=True)) as catalogue:
            streams = catalogue.load_streams()
            chosen = _Chosen(wanted, streams)
            inputs = [made.segment for made in catalogue.segments() if chosen.may_hold(made)]
            eraser = Eraser([deletion for deletion in catalogue.deletions() if deletion.finished is None])
        done, total = 0, sum(found.rows for found in inputs)

        def keep(table: pa.Table) -> pa.Table:
            nonlocal done
            done += len(table)
            progress(done, total)
            return eraser(chosen(table))

        for table in merged(inputs, directory / "segments", keep):
            if len(table):
                yield _told(table.combine_chunks(), streams)
    finally:
        os.close(descriptor)


class _Chosen:
    """A selection as a test of segments and of entries."""

    def __init__(self, wanted: Selection, streams: Streams) -> None:
        self._wanted = wanted
        self._start = max(wanted.start, wanted.after[0]) if wanted.after else wanted.start
        self._ids = np.array([s.id for s in streams.of(wanted.tenant)], np.int32) if wanted.tenant is not None else None

    def may_hold(self, made: Made) -> bool:
        """Whether a segment may have entries of it."""
        if made.segment.max_ts < self._start or made.segment.min_ts >= self._wanted.end:
            return False
        return self._ids is None or made.held is None or bool(np.isin(made.held.streams, self._ids).any())

    def __call__(self, table: pa.Table) -> pa.Table:
        """The entries of a table that are of it."""
        ts = table.column("ts").to_numpy()
        keep = (ts >= self._start) & (ts < self._wanted.end)
        if self._ids is not None:
            keep &= np.isin(table.column("stream_id").to_numpy(), self._ids)
        if self._wanted.after:
            keep &= (ts > self._wanted.after[0]) | (table.column("seq").to_numpy() > self._wanted.after[1])
        return table if keep.all() else table.filter(pa.array(keep))


def _told(table: pa.Table, streams: Streams) -> pa.Table:
    """Entries with the tenant and the labels of their streams."""
    ids = table.column("stream_id").combine_chunks().dictionary_encode()
    tenants = pa.array([streams[number].tenant for number in ids.dictionary.to_pylist()], pa.utf8())
    columns = {name: table.column(name) for name in ("ts", "line", "metadata", "seq")}
    columns["tenant"] = pa.DictionaryArray.from_arrays(ids.indices, tenants)
    columns["labels"] = labels_of(table.column("stream_id").combine_chunks(), streams)
    return pa.table({name: columns[name] for name in ("tenant", "ts", "labels", "line", "metadata", "seq")})
