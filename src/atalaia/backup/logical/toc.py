"""The table of contents of a dump of one database, asked by what a backup needs of it."""

from __future__ import annotations

from dataclasses import dataclass

from atalaia.backup.restoring.toc import Entry, read
from atalaia.backup.vault.place import Damaged
from atalaia.environment.errors import AtalaiaError

NAME = "toc.dat"


@dataclass(frozen=True, slots=True)
class Toc:
    """All objects of a dump, in its order."""

    entries: tuple[Entry, ...]

    @property
    def data(self) -> tuple[Entry, ...]:
        """The entries that have rows of tables."""
        return tuple(entry for entry in self.entries if entry.kind == "TABLE DATA" and entry.file)

    def statements(self, *kinds: str) -> list[str]:
        """The definitions of all entries of some kinds."""
        return [entry.definition for entry in self.entries if entry.kind in kinds and entry.definition]


def parse(data: bytes) -> Toc:
    """The contents of a toc.dat. Raises Damaged when it is none, or of an unknown version."""
    try:
        return Toc(tuple(read(data, "the table of contents of a dump")))
    except AtalaiaError as error:
        raise Damaged(error.what, "restore another backup, or update Atalaia") from error


def moved(entry: Entry) -> bool:
    """Whether rows are loaded through the root of their partitions, not into the table itself."""
    return entry.kind == "TABLE DATA" and entry.definition.startswith("-- load via partition root ")


def printable(text: str) -> str:
    """Text of a dump for people and for JSON: what is not UTF-8 is replaced."""
    return text.encode(errors="surrogateescape").decode(errors="replace")


def full_name(entry: Entry) -> str:
    """schema.name, without quotes."""
    return printable(f"{entry.schema}.{entry.name}" if entry.schema else entry.name)
