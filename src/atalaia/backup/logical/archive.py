"""A logical backup opened for reading: its databases, their tables of contents, the data of single tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from atalaia.backup.logical import toc as tocs
from atalaia.backup.logical.dump import GLOBALS, Dumped
from atalaia.backup.logical.follow import BLOBS, Followed
from atalaia.backup.logical.streams import Text
from atalaia.backup.logical.toc import Toc
from atalaia.backup.vault.place import Damaged
from atalaia.backup.vault.reader import Reader


@dataclass(frozen=True, slots=True)
class Archive:
    """`folders` has the databases in the order to restore them, and where their members lie."""

    reader: Reader
    folders: dict[str, str]

    def globals(self) -> bytes:
        """SQL of roles and tablespaces."""
        return self.reader.read(GLOBALS)

    def toc(self, database: str) -> bytes:
        """A database's toc.dat."""
        return self.reader.read(f"{self.folders[database]}/{tocs.NAME}")

    def contents(self, database: str) -> Toc:
        """A database's toc.dat, read. Raises Damaged."""
        return tocs.parse(self.toc(database))

    def size(self, database: str, file: str) -> int:
        """Bytes of a file of a database; 0 when it has none of that name."""
        member = self.reader.members.get(f"{self.folders[database]}/{file}")
        return member.size if member else 0

    def stream(self, database: str, file: str) -> Iterator[bytes]:
        """A file of a database, in blocks. Raises Damaged, PlaceError."""
        member = self.reader.members.get(f"{self.folders[database]}/{file}")
        if member is None:
            raise Damaged(f"{self.reader.folder} lacks {file} of the database {database}", "restore another backup")
        if len(member.chunks) == 1:
            yield self.reader.chunk(member.chunks[0])
        else:
            yield from self.reader.chunks(member.chunks, workers=1)

    def files(self, database: str) -> list[str]:
        """The files of a database."""
        prefix = f"{self.folders[database]}/"
        return [name.removeprefix(prefix) for name in self.reader.members if name.startswith(prefix)]

    def split(self, database: str) -> Iterator[tuple[str, Iterator[bytes]]]:
        """The files of large objects again, one after another: each must be read before the next."""
        stream = self.stream(database, BLOBS)
        rest = b""

        def blocks(left: int) -> Iterator[bytes]:
            nonlocal rest
            while left:
                rest = rest or next(stream)
                part, rest = rest[:left], rest[left:]
                left -= len(part)
                yield part

        for oid, size, _ in self.objects(database):
            yield f"blob_{oid}.dat", blocks(size)

    def objects(self, database: str) -> list[tuple[int, int, str]]:
        """OID, size and digest of a database's large objects, in the order in which `blobs` has them."""
        member = self.reader.members.get(f"{self.folders[database]}/{BLOBS}")
        return [(oid, size, digest) for oid, size, digest in member.facts["objects"]] if member else []

    def total(self, databases: tuple[str, ...]) -> int:
        """Bytes of all that is in some databases."""
        folders = {self.folders[database] for database in databases}
        return sum(member.size for name, member in self.reader.members.items() if name.partition("/")[0] in folders)

    def dumped(self) -> Dumped:
        """What was dumped, as it was seen when it was."""
        return Dumped(self.globals(), {name: self._followed(name) for name in self.folders})

    def _followed(self, database: str) -> Followed:
        prefix = f"{self.folders[database]}/"
        texts = {
            name.removeprefix(prefix): Text(member.facts["rows"], member.facts["bytes"], member.facts["xxh3"])
            for name, member in self.reader.members.items()
            if name.startswith(prefix) and "rows" in member.facts
        }
        objects = {oid: (size, digest) for oid, size, digest in self.objects(database)}
        return Followed(self.toc(database), texts, objects)


def open_archive(reader: Reader) -> Archive:
    """The archive of a logical backup."""
    return Archive(reader, dict(reader.details["details"]["databases"]))
