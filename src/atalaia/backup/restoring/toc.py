"""Reads toc.dat of a directory that pg_dump -Fd wrote: every object's name, definition, and what it depends on.

`pg_restore --list` prints names so that odd ones cannot be told apart, and no definitions. Source of the format:
PostgreSQL's src/bin/pg_dump/pg_backup_archiver.c (ReadHead, ReadToc), archive versions 1.14 to 1.16 (PostgreSQL 12-18).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from atalaia.environment.errors import AtalaiaError

_OLDEST, _NEWEST = (1, 14), (1, 16)
RELATIONS = ("TABLE", "FOREIGN TABLE", "VIEW", "MATERIALIZED VIEW", "SEQUENCE")
_IDENTIFIER = r'(?:"(?:[^"]|"")*"|[^\s."(;]+)'
_QUALIFIED = re.compile(rf"({_IDENTIFIER})\.({_IDENTIFIER})")


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of a dump. `kind` is pg_dump's word (TABLE, FK CONSTRAINT); `copy` the COPY statement of its rows.

    `file` is the data file of TABLE DATA in the directory, `oid` that of the table. Text that is not UTF-8 is kept
    with surrogate escapes.
    """

    number: int
    kind: str
    schema: str
    name: str
    owner: str
    definition: str = ""
    copy: str = ""
    file: str = ""
    depends: tuple[int, ...] = ()
    oid: int = 0

    @property
    def label(self) -> str:
        """How people are told of it."""
        return f"{self.kind.lower()} {self.schema + '.' if self.schema else ''}{self.name}"

    @property
    def altered(self) -> tuple[str, str] | None:
        """Schema and name of the table that its definition alters first: the one that a constraint belongs to."""
        if not self.definition.startswith("ALTER "):
            return None
        match = _QUALIFIED.search(self.definition)
        return (unquoted(match[1]), unquoted(match[2])) if match else None


def unquoted(identifier: str) -> str:
    """An identifier without its quotes."""
    return identifier[1:-1].replace('""', '"') if identifier.startswith('"') else identifier


def quoted(name: str) -> str:
    """A name as an identifier, always in quotes."""
    return '"' + name.replace('"', '""') + '"'


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.width = 4

    def take(self, count: int) -> bytes:
        part = self.data[self.at : self.at + count]
        if len(part) != count:
            raise ValueError("it ends too early")
        self.at += count
        return part

    def number(self) -> int:
        negative = self.take(1)[0]
        value = int.from_bytes(self.take(self.width), "little")
        return -value if negative else value

    def text(self) -> str | None:
        size = self.number()
        return None if size < 0 else self.take(size).decode(errors="surrogateescape")


def read(data: bytes, where: str) -> list[Entry]:
    """The entries of a toc.dat, in its order. Raises AtalaiaError when it is none, or of an unknown version."""
    try:
        return _read(_Bytes(data), where)
    except (ValueError, TypeError, IndexError) as error:
        raise AtalaiaError(f"{where} is not a table of contents of pg_dump: {error}", "use another backup") from error


def _read(source: _Bytes, where: str) -> list[Entry]:
    if source.take(5) != b"PGDMP":
        raise ValueError("it does not begin as one")
    version = (source.take(1)[0], source.take(1)[0])
    source.take(1)
    if not _OLDEST <= version <= _NEWEST:
        raise AtalaiaError(f"{where} has archive version {version[0]}.{version[1]}", "restore the whole database")
    source.width = source.take(1)[0]
    source.take(2)  # size of offsets, format
    if version >= (1, 15):
        source.take(1)
    else:
        source.number()
    for _ in range(7):  # time of creation
        source.number()
    for _ in range(3):  # database, versions of server and pg_dump
        source.text()
    return [_entry(source, version) for _ in range(source.number())]


def _entry(source: _Bytes, version: tuple[int, int]) -> Entry:
    number = source.number()
    source.number()  # has a dumper
    source.text()  # OID of its catalogue
    oid = source.text()
    name, kind = source.text() or "", source.text() or ""
    source.number()  # section
    definition, _, copy = source.text() or "", source.text(), source.text() or ""
    schema = source.text() or ""
    source.text(), source.text()  # tablespace, access method
    if version >= (1, 16):
        source.number()  # kind of relation
    owner = source.text() or ""
    source.text()
    depends = []
    while (one := source.text()) is not None:
        depends.append(int(one))
    file = source.text() or ""
    return Entry(number, kind, schema, name, owner, definition, copy, file, tuple(depends), int(oid or 0))
