"""Writes a backup out in clear, as files that PostgreSQL's own programs restore: the way out of Atalaia."""

from __future__ import annotations

import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from atalaia.backup.logical.archive import Archive, open_archive
from atalaia.backup.logical.dump import GLOBALS
from atalaia.backup.logical.follow import BLOBS
from atalaia.backup.model import Backup, Progress, advance
from atalaia.backup.site import Site
from atalaia.backup.sources import opened
from atalaia.backup.vault.place import Damaged
from atalaia.backup.vault.reader import Reader
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.state import sync_directory

_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,100}")


@dataclass(frozen=True, slots=True)
class Extracted:
    """What was written: `files` below the directory, bytes, and the commands that restore it without Atalaia."""

    files: int
    size: int
    commands: tuple[str, ...]


class _Writing:
    def __init__(self, directory: Path, progress: Progress, total: int) -> None:
        self.directory, self._progress, self._total = directory, progress, total
        self.files = self.size = 0

    def file(self, name: str, blocks: Iterator[bytes]) -> None:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts:
            raise Damaged(f"the backup has a member {name!r}, which would lie elsewhere", "use another backup")
        target = self.directory / path
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            for block in blocks:
                file.write(block)
                self.size += len(block)
                advance(self._progress, "extracting", self.size, self._total)
            file.flush()
            os.fsync(file.fileno())
        self.files += 1


def extract(site: Site, backup: Backup, directory: Path, progress: Progress) -> Extracted:
    """Write all members of a backup below `directory`, which must be new or empty.

    Raises InputError when it is not, or there is nothing of the backup; Damaged, PlaceError, WrongKey.
    """
    if not backup.sha256:
        raise InputError(f"{backup.id} is {backup.state.value} and has nothing to extract", "`atalaia backup list`")
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise InputError(f"{directory} exists and is not empty", "nothing was changed; give a new directory")
    reader = opened(site, backup, progress)
    if damaged := reader.damage():
        raise Damaged(f"{backup.id} is damaged: {'; '.join(damaged)}", "extract another, or from another repository")
    existed = directory.is_dir()
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    total = sum(member.size for member in reader.members.values())
    if (free := shutil.disk_usage(directory).free) < total:
        raise InputError(f"{directory} has {free} bytes of free room, and {total} are needed", "make room there")
    writing = _Writing(directory, progress, total)
    try:
        if backup.kind == "logical":
            commands = _logical(open_archive(reader), writing)
        else:
            commands = _members(reader, backup, writing)
        sync_directory(directory)
    except BaseException as error:
        for path in directory.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        if not existed:
            directory.rmdir()
        if isinstance(error, OSError):
            raise AtalaiaError(
                f"{directory} cannot be written: {error.strerror}", "make room there, or give another"
            ) from error
        raise
    return Extracted(writing.files, writing.size, commands)


def _logical(archive: Archive, writing: _Writing) -> tuple[str, ...]:
    """`globals.sql`, and for each database what `pg_dump --format=directory` has written."""
    writing.file(GLOBALS, iter([archive.globals()]))
    path = shlex.quote(str(writing.directory / GLOBALS))
    commands = [f"psql -X -v ON_ERROR_STOP=1 -d postgres -f {path}"]
    for database, number in archive.folders.items():
        folder = f"{number}-{database}" if _SAFE.fullmatch(database) else number
        for file in archive.files(database):
            if file == BLOBS:
                for name, blocks in archive.split(database):
                    writing.file(f"{folder}/{name}", blocks)
            else:
                writing.file(f"{folder}/{file}", archive.stream(database, file))
        made = "" if database in ("postgres", "template1") else "--create "
        into = database if not made else "postgres"
        target = shlex.quote(str(writing.directory / folder))
        commands.append(f"pg_restore --exit-on-error {made}-d {into} {target}  # {database!r}")
    return tuple(commands)


def _members(reader: Reader, backup: Backup, writing: _Writing) -> tuple[str, ...]:
    for name in reader.members:
        writing.file(name, reader.stream(name))
    if backup.kind == "plain":
        path = shlex.quote(str(writing.directory / "dump.sql"))
        return (f"psql -X -v ON_ERROR_STOP=1 -d postgres -f {path}",)
    return ()
