"""Copies of a store that agree with themselves, made while another process may have it open."""

from __future__ import annotations

import os
import shutil
import sqlite3
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.state import sync_directory
from atalaia.store import wal
from atalaia.store.catalogue import Catalogue, read_beside
from atalaia.store.compact import index_path

_TRIES = 20


@dataclass(frozen=True, slots=True)
class Copied:
    """`segments` of the copy, `linked` of its files are hard links, `copied` bytes were written."""

    segments: int
    linked: int
    copied: int


def snapshot(directory: Path, target: Path) -> Copied:
    """Copy the store in `directory` to `target`, which must not exist; all acknowledged before the call is in it.

    Segments are hard links where the file system allows. Raises InputError, AtalaiaError for a file that is missing.
    """
    if target.exists():
        raise InputError(f"{target} exists already", "name a directory that does not exist")
    partial = target.with_name(f"{target.name}.partial")
    if partial.exists():
        raise InputError(f"{partial} is left of a snapshot that was cut off", "remove it, then run the command again")
    try:
        for folder in ("wal", "segments"):
            (partial / folder).mkdir(parents=True)
        # The logs go first: what becomes a segment meanwhile is in the catalogue that is taken afterwards.
        copied = _copy_logs(directory / "wal", partial / "wal")
        found = _copy_catalogue_and_segments(directory, partial)
        copied += _copy_rules(directory / "rules", partial / "rules")
        for written in (partial / "wal", partial / "segments", partial):
            sync_directory(written)
        partial.rename(target)
        sync_directory(target.parent)
    except (OSError, sqlite3.Error) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise AtalaiaError(f"the snapshot {target} cannot be written: {error}", "nothing is left of it") from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return Copied(found.segments, found.linked, found.copied + copied)


def _copy_logs(source: Path, target: Path) -> int:
    size = 0
    for path in sorted(source.glob("*.wal")):
        with suppress(FileNotFoundError):  # it is a segment now
            size += copy_file(path, target / path.name)
    if newest := max(target.iterdir(), default=None):
        # Its last record was being written, so it is not acknowledged.
        *_, last = [None, *wal.intact(newest)]
        if isinstance(last, wal.Cut):
            wal.cut_off(last)
    return size


def _copy_rules(source: Path, target: Path) -> int:
    """What rules/ keeps; each file is replaced as a whole when it changes."""
    size = 0
    for path in sorted(source.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # removed meanwhile
                size += copy_file(path, copy)
            sync_directory(copy.parent)
    return size


def _copy_catalogue_and_segments(directory: Path, target: Path) -> Copied:
    """The catalogue, then the files that it names; taken anew when one of them was compacted or removed meanwhile."""
    linked = copied = 0
    vanished = ""
    for _ in range(_TRIES):
        with closing(read_beside(directory)) as source:
            source.copy(target / "catalogue.sqlite")
        with closing(Catalogue(target / "catalogue.sqlite")) as copy:
            segments = [made.segment for made in copy.segments()]
        names = {found.name for found in segments}
        names |= {index_path(directory, found).name for found in segments if found.index_size}
        try:
            for vanished in sorted(names - set(os.listdir(target / "segments"))):
                size = _link(directory / "segments" / vanished, target / "segments" / vanished)
                linked, copied = linked + (size is None), copied + (size or 0)
        except FileNotFoundError:
            continue
        for path in (target / "segments").iterdir():
            if path.name not in names:
                path.unlink()
        with open(target / "catalogue.sqlite", "rb") as file:
            os.fsync(file.fileno())
        return Copied(len(segments), linked, copied)
    raise AtalaiaError(
        f"{vanished} of the store at {directory} is missing", "`atalaia store check` tells more, `store repair` helps"
    )


def _link(source: Path, target: Path) -> int | None:
    """A hard link; where that is impossible a copy, and its size. Raises FileNotFoundError."""
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another file system, or one without hard links
        return copy_file(source, target)
    return None


def copy_file(source: Path, target: Path) -> int:
    """Copy a file durably; its size."""
    with open(source, "rb") as read, open(target, "xb") as write:
        shutil.copyfileobj(read, write, 1 << 20)
        write.flush()
        os.fsync(write.fileno())
        return write.tell()
