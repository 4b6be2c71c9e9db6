"""A logical backup as a source of selections: only the members of what is taken are read from the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg

from atalaia.backup.logical import toc as tocs
from atalaia.backup.logical.archive import Archive
from atalaia.backup.logical.sessions import execute, session
from atalaia.backup.logical.streams import END
from atalaia.backup.plain.contents import Reader as Dump
from atalaia.backup.restoring.sources import Rows, scripted
from atalaia.backup.restoring.toc import Entry, quoted
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres.binaries import Installation
from atalaia.postgres.cluster import Cluster

_TABLESPACE = re.compile(r" TABLESPACE = \S.*;\s*\Z")  # it need not exist there


class Stored:
    """One database of a logical backup; `folder` is a new, private directory for its table of contents."""

    def __init__(self, archive: Archive, database: str, installation: Installation, folder: Path) -> None:
        if database not in archive.folders:
            raise InputError(f"there is no database {database!r} in it", f"there are: {', '.join(archive.folders)}")
        self._archive, self._database, self._installation, self._folder = archive, database, installation, folder
        folder.mkdir(mode=0o700)
        data = archive.toc(database)
        (folder / tocs.NAME).write_bytes(data)
        contents = tocs.parse(data)
        self.entries: Sequence[Entry] = contents.entries
        self._data = {(entry.schema, entry.name): entry for entry in contents.data}
        self._values = {(e.schema, e.name): e.definition for e in contents.entries if e.kind == "SEQUENCE SET"}
        dump = Dump()
        dump.feed(archive.globals())
        self.roles: Sequence[str] = sorted(dump.contents.roles)

    def create(self, cluster: Cluster, name: str) -> None:
        """Make an empty database of this encoding and locale, called `name`. Raises AtalaiaError."""
        definition = next(entry.definition for entry in self.entries if entry.kind == "DATABASE")
        properties = definition[definition.index(" WITH TEMPLATE ") :]
        try:
            with session(cluster, "postgres") as connection:
                execute(connection, f"CREATE DATABASE {quoted(name)}{_TABLESPACE.sub(';', properties)}")
        except psycopg.Error as error:
            raise AtalaiaError(f"{name} could not be created in {cluster.name}: {error}", "see its log") from error

    def script(self, entries: Sequence[Entry], section: str = "") -> str:
        """The SQL that makes these objects."""
        return scripted(self._installation, self._folder, entries, section)

    def rows(self, table: Entry) -> Rows | None:
        """The rows of a table; None when the backup has none of it."""
        entry = self._data.get((table.schema, table.name))
        if entry is None:
            return None
        size = self._archive.size(self._database, entry.file) - len(END)
        return Rows(entry.copy.rstrip().removesuffix(";"), self._blocks(entry, size), size)

    def value(self, sequence: Entry) -> str:
        """The SQL that sets a sequence as it was; nothing when its value is not in the backup."""
        return self._values.get((sequence.schema, sequence.name), "")

    def _blocks(self, entry: Entry, left: int) -> Iterator[bytes]:
        for block in self._archive.stream(self._database, entry.file):
            yield block[:left]
            left = max(0, left - len(block))
