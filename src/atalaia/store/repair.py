"""Repair: everything undamaged is kept and made readable; what is taken out of use goes to DIR/damaged.

Each step is one transaction, so a repair that was cut off can be run again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np

from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.state import sync_directory
from atalaia.store import recovery, segment
from atalaia.store.catalogue import Catalogue, OtherFormat, Unreachable
from atalaia.store.compact import compact, index_path, remove
from atalaia.store.rebuild import TENANT, rebuild
from atalaia.store.salvage import Repaired, Salvaged, keep, salvage, salvage_logs
from atalaia.store.segment import Made
from atalaia.store.verify import Facts, Verified, texts_of, verify_index, verify_segment

Progress = Callable[[int, int], None]


def repair(directory: Path, dry_run: bool, progress: Progress) -> Iterator[Repaired]:
    """Repair the store in `directory`, which no process may have open; with `dry_run` only say what would be done.

    `progress` is told the bytes of segments looked at and those there are. Raises InputError, AtalaiaError.
    """
    if not (directory / "segments").is_dir():
        raise InputError(f"there is no log store at {directory}", "name the directory of one with --data")
    descriptor = recovery.lock(directory)
    path, made_anew = directory / "catalogue.sqlite", directory / "catalogue.sqlite.partial"
    try:
        if _catalogue_damaged(path):
            yield from rebuild(directory, made_anew, dry_run)
            if not dry_run:
                beside = [path.with_name(path.name + end) for end in ("-wal", "-shm")]
                for file in (path, *beside):
                    if file.exists():
                        keep(directory, file)
                # SQLite would take what the old log holds into the new file.
                for file in beside:
                    file.unlink(missing_ok=True)
                made_anew.replace(path)
                sync_directory(directory)
        with closing(Catalogue(made_anew if made_anew.exists() else path)) as catalogue:
            yield from _Repair(directory, catalogue, dry_run, progress).segments()
        yield from salvage_logs(directory, dry_run)
    except OSError as error:
        raise AtalaiaError(
            f"the repair cannot go on: {error}", "see to that, then run it again: what is done by now is good"
        ) from error
    finally:
        made_anew.unlink(missing_ok=True)
        os.close(descriptor)


def _catalogue_damaged(path: Path) -> bool:
    if not path.exists():
        return True
    try:
        with closing(Catalogue(path)) as catalogue:
            return bool(catalogue.problems())
    except (OtherFormat, Unreachable):
        raise
    except AtalaiaError:
        return True


class _Repair:
    """Repairs the segments of one catalogue."""

    def __init__(self, directory: Path, catalogue: Catalogue, dry_run: bool, progress: Progress) -> None:
        self._root = directory
        self._folder = directory / "segments"
        self._catalogue = catalogue
        self._dry_run = dry_run
        self._progress = progress
        streams = catalogue.load_streams()
        self._labels = texts_of(streams)
        self._tenants = {stream.id: stream.tenant for stream in streams.since(0)}
        self._numbers = itertools.count(catalogue.number + 1)

    def segments(self) -> Iterator[Repaired]:
        """Look at each segment, and set right what is wrong with it."""
        every = self._catalogue.segments()
        done, total = 0, sum(made.segment.size for made in every)
        for made in every:
            try:
                verified = verify_segment(self._folder / made.segment.name, made)
            except FileNotFoundError:
                verified = Verified(("it is missing",))
            if verified.facts is None:
                left = salvage(self._folder / made.segment.name, made.segment)
                yield from self._relabelled(left.labels)
                yield self._salvaged(made, left)
            else:
                yield from self._as_its_file(made, verified.facts, bool(verified.problems))
                yield from self._indexed(made, verified.facts)
            done += made.segment.size
            self._progress(done, total)

    def _salvaged(self, made: Made, left: Salvaged) -> Repaired:
        """Put a new segment with the entries that can be read in the place of a damaged one."""
        found = made.segment
        rows = 0 if left.entries is None else len(left.entries)
        if not self._dry_run:
            new = []
            if left.entries is not None:
                batches, streams = left.entries.to_batches(), self._catalogue.load_streams()
                new = [segment.write(batches, streams, next(self._numbers), self._folder)]
            for file in (self._folder / found.name, index_path(self._folder, found)):
                if file.exists():
                    keep(self._root, file)
            self._catalogue.replace([found.name], new)
            remove(self._folder, found)
        what = f"{rows} of {found.rows} entries are in a new segment" if rows else "nothing in it can be read"
        return Repaired(
            f"segments/{found.name}", what, found.rows - rows, left.start, left.end, self._losers(made, left)
        )

    def _losers(self, made: Made, left: Salvaged) -> tuple[str, ...]:
        """The labels of the streams that lost entries."""
        if made.held is None:
            return ()
        kept = np.zeros(len(made.held), np.int64)
        if left.entries is not None:
            ids, counts = np.unique(left.entries.column("stream_id").to_numpy(), return_counts=True)
            known = np.isin(ids, made.held.streams)
            kept[np.searchsorted(made.held.streams, ids[known])] = counts[known]
        losers = made.held.streams[kept < made.held.rows].tolist()
        return tuple(self._labels.get(number, f"stream {number}") for number in losers)

    def _as_its_file(self, made: Made, facts: Facts, differs: bool) -> Iterator[Repaired]:
        """Correct the catalogue, which has no checksum, where a segment's intact file says otherwise."""
        found = made.segment
        if differs:
            if not self._dry_run:
                self._catalogue.replace([found.name], [Made(replace(found, **facts.row()), facts.held)])
            yield Repaired("catalogue.sqlite", f"the row of {found.name} now says what its file does")
        yield from self._relabelled(facts.labels)

    def _relabelled(self, labels: Mapping[int, str]) -> Iterator[Repaired]:
        """Correct the labels of streams, as segments have them."""
        for number, text in labels.items():
            if self._labels.get(number) != text:
                self._labels[number] = text
                tenant = self._tenants.setdefault(number, TENANT)
                if not self._dry_run:
                    self._catalogue.set_stream(number, tenant, text)
                yield Repaired("catalogue.sqlite", f"stream {number} of tenant {tenant} now has the labels {text}")

    def _indexed(self, made: Made, facts: Facts) -> Iterator[Repaired]:
        """Compact a segment alone whose index is damaged, which gives it a new one."""
        found = made.segment
        path = index_path(self._folder, found)
        if not found.index_size:
            return
        try:
            if verify_index(path, found, facts) is None:
                return
            if not self._dry_run:
                keep(self._root, path)
        except FileNotFoundError:
            pass
        if not self._dry_run:
            streams = self._catalogue.load_streams()
            new = compact([found], self._folder, streams, lambda: next(self._numbers), purged=found.purged)
            self._catalogue.replace([found.name], new)
            remove(self._folder, found)
        yield Repaired(f"segments/{path.name}", "made again, with the segment; no entries are lost")
