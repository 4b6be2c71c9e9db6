"""Reads `toc.dat`, the table of contents of a pg_dump directory (pg_backup_archiver.c, ReadHead and ReadToc)."""

from __future__ import annotations

from dataclasses import dataclass

from atalaia.backup.vault.place import Damaged

NAME = "toc.dat"
# Archive versions: 1.14 is PostgreSQL 12 to 15, 1.15 is 16, 1.16 is 17 and 18. Others are not guessed at.
_KNOWN = {(1, 14), (1, 15), (1, 16)}
_NONE, PRE_DATA, DATA, POST_DATA = 1, 2, 3, 4


@dataclass(frozen=True, slots=True)
class Entry:
    """One object. `kind` is such as `TABLE DATA`; `depends` are ids; `file` holds its data in the directory.

    Text that is not UTF-8 is kept with surrogate escapes.
    """

    id: int
    oid: int
    tag: str
    kind: str
    section: int
    definition: str
    copy: str
    schema: str
    owner: str
    depends: tuple[int, ...]
    file: str

    @property
    def name(self) -> str:
        """schema.tag, without quotes."""
        name = f"{self.schema}.{self.tag}" if self.schema else self.tag
        return name.encode(errors="surrogateescape").decode(errors="replace")

    @property
    def moved(self) -> bool:
        """Whether its rows are loaded through the root of its partitions, not into the table itself."""
        return self.kind == "TABLE DATA" and self.definition.startswith("-- load via partition root ")


@dataclass(frozen=True, slots=True)
class Toc:
    """The contents of a dump of one database."""

    database: str
    entries: tuple[Entry, ...]

    @property
    def data(self) -> tuple[Entry, ...]:
        """The entries that have rows of tables."""
        return tuple(entry for entry in self.entries if entry.kind == "TABLE DATA" and entry.file)

    def statements(self, *kinds: str) -> list[str]:
        """The definitions of all entries of some kinds."""
        return [entry.definition for entry in self.entries if entry.kind in kinds and entry.definition]


class _Bytes:
    def __init__(self, data: bytes) -> None:
        self.data, self.at, self.width = data, 0, 4

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def integer(self) -> int:
        negative = self.byte()
        value = int.from_bytes(self.take(self.width), "little")
        return -value if negative else value

    def take(self, count: int) -> bytes:
        if not 0 <= count <= len(self.data) - self.at:
            raise IndexError(count)
        self.at += count
        return self.data[self.at - count : self.at]

    def text(self) -> str | None:
        length = self.integer()
        return None if length < 0 else self.take(length).decode(errors="surrogateescape")


def parse(data: bytes) -> Toc:
    """The contents of a toc.dat. Raises Damaged when it is none, or of an unknown version."""
    try:
        return _parse(_Bytes(data))
    except (IndexError, ValueError) as error:
        raise Damaged(
            "the table of contents of a dump cannot be read", "restore another backup, or update Atalaia"
        ) from error


def _parse(source: _Bytes) -> Toc:
    if source.take(5) != b"PGDMP":
        raise ValueError("magic")
    version = (source.byte(), source.byte())
    source.byte()  # revision
    if version not in _KNOWN:
        raise ValueError(f"archive version {version}")
    source.width = source.byte()
    source.byte()  # width of offsets, used by other formats
    source.byte()  # format
    if version >= (1, 15):
        source.byte()  # compression algorithm
    else:
        source.integer()  # compression level
    for _ in range(7):
        source.integer()  # when it was made
    database = source.text() or ""
    source.text()  # server version
    source.text()  # pg_dump version
    return Toc(database, tuple(_entry(source, version) for _ in range(source.integer())))


def _entry(source: _Bytes, version: tuple[int, int]) -> Entry:
    identifier = source.integer()
    source.integer()  # whether it has data
    source.text()  # catalogue's OID
    oid, tag, kind = source.text(), source.text(), source.text()
    section = source.integer()
    definition = source.text()
    source.text()  # DROP statement
    copy, schema = source.text(), source.text()
    source.text()  # tablespace
    source.text()  # table access method
    if version >= (1, 16):
        source.integer()  # relkind
    owner = source.text()
    source.text()  # WITH OIDS
    depends = []
    while (one := source.text()) is not None:
        depends.append(int(one))
    return Entry(
        id=identifier,
        oid=int(oid or 0),
        tag=tag or "",
        kind=kind or "",
        section=section,
        definition=definition or "",
        copy=copy or "",
        schema=schema or "",
        owner=owner or "",
        depends=tuple(depends),
        file=source.text() or "",
    )
