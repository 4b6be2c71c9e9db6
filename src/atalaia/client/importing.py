"""Imports: entries from files, such as an export's, pushed to a running store over HTTP.

A file is a source of its rows: an import can be repeated, or go on after it was cut off, and nothing is stored twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from atalaia.client.filerows import rows_of
from atalaia.client.pusher import Pusher
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.store import manifest
from atalaia.store.batch import SCHEMA, Source

Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Input:
    """A file to import, and its SHA-256 if that is known."""

    path: Path
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Imported:
    """Rows of a file: `stored` now, `known` from before, `refused` by the store (`message` says why the first was)."""

    file: str
    stored: int
    known: int
    refused: int
    message: str | None


def inputs(paths: Sequence[Path]) -> list[Input]:
    """The files that are meant: the parts of exports, and files. Raises InputError."""
    found: list[Input] = []
    for path in paths:
        if not path.is_dir():
            found.append(Input(path))
            continue
        made = manifest.load(path)
        if made is None:
            raise InputError(f"{path} is not an export: it has no {manifest.FILE_NAME}", "name the files in it")
        if not made.complete:
            raise InputError(f"the export in {path} is not complete", "run its `atalaia store export` again first")
        found += [Input(path / part.name, part.sha256) for part in made.parts]
    if missing := [one.path for one in found if not one.path.is_file()]:
        raise InputError(f"{missing[0]} is not a file")
    return found


def import_file(given: Input, pusher: Pusher, tenant: str, progress: Progress) -> Imported:
    """Push the rows of a file that the store has not; those without a tenant of their own are of `tenant`.

    `progress` is told the rows that are done. Raises InputError for a file that cannot be read, AtalaiaError when the
    store does not take its rows.
    """
    with open(given.path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if given.sha256 not in (None, digest):
        raise InputError(f"{given.path} is not as it was exported: its SHA-256 is not the manifest's", "export again")
    ends: dict[str, int] = {}
    row = stored = refused = 0
    message: str | None = None
    for table in rows_of(given.path):
        following = row + len(table)
        for name, entries, numbers in _by_tenant(table, tenant, row):
            source = f"import:{digest}:{name}"
            if name not in ends:
                ends[name] = pusher.position(source)
            while len(left := entries.filter(pa.array(numbers >= ends[name]))):
                answer = pusher.push(left, name, Source(source, ends[name], following))
                if answer.position is not None:
                    if answer.position < ends[name]:
                        raise AtalaiaError(
                            f"the store at {pusher.base} has forgotten rows of {given.path} that it took",
                            "run the same command again if another store runs there now",
                        )
                    ends[name] = answer.position  # an earlier try of ours arrived after all
                    continue
                ends[name] = following
                stored, refused = stored + len(left) - answer.refused, refused + answer.refused
                message = message or answer.message
        row = following
        progress(row)
    return Imported(str(given.path), stored, row - stored - refused, refused, message)


def _by_tenant(table: pa.Table, default: str, row: int) -> Iterator[tuple[str, pa.Table, np.ndarray]]:
    """The entries of each tenant with the numbers of their rows, of which the first is `row`."""
    names = pc.fill_null(table.column("tenant"), default).combine_chunks()
    numbers = np.arange(row, row + len(table))
    entries = table.select(SCHEMA.names)
    distinct = pc.unique(names).to_pylist()
    if len(distinct) == 1:
        yield distinct[0], entries, numbers
        return
    for name in distinct:
        mask = pc.equal(names, name)
        yield name, entries.filter(mask), numbers[mask.to_numpy(zero_copy_only=False)]
