"""What a logical dump contains, in the form that plain backups are compared in; and digests of each table's text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import xxhash

from atalaia.backup.logical import toc as tocs
from atalaia.backup.logical.dump import Dumped
from atalaia.backup.logical.follow import Followed
from atalaia.backup.logical.partial import hanging
from atalaia.backup.logical.toc import Toc, full_name, moved, printable
from atalaia.backup.plain.contents import COUNTED, Contents, Database, Reader, differences, digest, line_of, stable
from atalaia.backup.plain.lexer import Kind, Lexer

# They are the same in every dump of a version, or belong to the server that a database is restored into.
FRAME = {"ENCODING", "STDSTRINGS", "SEARCHPATH"}
OWN = ("template1", "postgres")  # every server has them from its beginning
LARGE_OBJECTS = "large objects"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was in a dump: `digests` by database and table, of large objects under LARGE_OBJECTS."""

    contents: Contents
    digests: dict[str, dict[str, str]]

    def summary(self) -> dict[str, Any]:
        """What the catalogue keeps."""
        summary = self.contents.summary()
        for name, digests in self.digests.items():
            summary["databases"][name]["digests"] = digests
        return summary


def evidence(dumped: Dumped) -> Evidence:
    """What is in a dump."""
    reader = Reader()
    reader.feed(dumped.globals)
    shared = reader.contents
    databases, digests = {}, {}
    for name, followed in dumped.databases.items():
        databases[name], digests[name] = _database(name, followed)
    return Evidence(Contents(shared.roles, shared.shared, databases, shared.whole), digests)


def _database(name: str, followed: Followed) -> tuple[Database, dict[str, str]]:
    contents = tocs.parse(followed.toc)
    tables: dict[str, tuple[int, int]] = {}
    digests = {}
    for entry in contents.data:
        text = followed.texts[entry.file]
        if moved(entry):
            # Which partition a row goes to may depend on the server: only their sum can be compared.
            root = entry.definition.split(" root ", 1)[1].strip().rstrip(";")
            rows, size = tables.get(root, (0, 0))
            tables[root] = (rows + text.rows, size + text.size)
        else:
            tables[full_name(entry)] = (text.rows, text.size)
            digests[full_name(entry)] = text.digest
    if followed.objects:
        whole = xxhash.xxh3_128()
        for oid, (_, one) in sorted(followed.objects.items()):
            whole.update(f"{oid} {one}\n".encode())
        digests[LARGE_OBJECTS] = whole.hexdigest()
    size = sum(size for size, _ in followed.objects.values())
    return Database(tables, len(followed.objects), size, objects(contents, name)), digests


def objects(contents: Toc, database: str) -> frozenset[str]:
    """The schema of a database, one line an object."""
    found: dict[tuple[str, str, str, str], list[str]] = {}
    left = {entry.number for entry in hanging(contents)}
    for entry in contents.entries:
        if entry.kind in COUNTED or entry.kind in FRAME or (entry.kind == "DATABASE" and database in OWN):
            continue
        if entry.number in left:
            continue
        kept = found.setdefault((entry.kind, entry.schema, entry.name, entry.owner), [])
        for piece in Lexer().feed(entry.definition.encode(errors="surrogateescape") + b"\n"):
            if piece.kind is Kind.STATEMENT and (part := stable(entry.kind, piece.text)):
                kept.append(digest(part))
    return frozenset(line_of(_clean(key), parts) for key, parts in found.items())


def _clean(key: tuple[str, str, str, str]) -> tuple[str, str, str, str]:
    kind, schema, name, owner = (printable(part) for part in key)
    return kind, schema, name, owner


def compared(expected: Evidence, found: Evidence, limit: int = 10) -> list[str]:
    """How two dumps differ, in words; empty if alike."""
    said = differences(expected.contents, found.contents, limit)
    for name, digests in sorted(expected.digests.items()):
        others = found.digests.get(name, {})
        tables = expected.contents.databases[name].tables
        same = found.contents.databases[name].tables if name in found.contents.databases else {}
        changed = [
            table
            for table, one in sorted(digests.items())
            if others.get(table, one) != one and tables.get(table) == same.get(table)
        ]
        said += [f"{name}: {_named(table, tables)} hold other values" for table in changed[:limit]]
    return said


def _named(table: str, tables: dict[str, tuple[int, int]]) -> str:
    return f"the {tables[table][0]} rows of table {table}" if table in tables else f"the {table}"
