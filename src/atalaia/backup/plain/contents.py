"""What a dump contains: databases, roles, objects, rows of each table, large objects; and how two dumps
differ.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from typing import Any

from atalaia.backup.plain.lexer import Kind, Lexer, Piece

_ENTRY = re.compile(rb"-- (?:Data for )?Name: (.*); Type: ([A-Z ]+); Schema: (.*); Owner: ([^;]*)(?:; Tablespace: .*)?")
_IDENTIFIER = re.compile(rb'"((?:[^"]|"")*)"|([^\s."(]+)')
_ROLE = re.compile(rb"\ACREATE ROLE (.*);\Z", re.DOTALL)
_LOCATION = re.compile(rb"(CREATE TABLESPACE .* LOCATION )'(?:[^']|'')*';", re.DOTALL)
_WRITE = b"SELECT pg_catalog.lowrite(0, '\\x"
_CREATE = b"SELECT pg_catalog.lo_create("
CLOSING = b"-- PostgreSQL database cluster dump complete"
CLOSING_ONE = b"-- PostgreSQL database dump complete"
# Their text is the same in every dump. Of others only kind, name and owner are compared: the server prints an
# expression anew from its parsed form, and a restored `CHECK (v IN ('a', 'b'))` on varchar prints
# differently.
_EXACT = {
    *("ACL", "COMMENT", "DATABASE", "DATABASE PROPERTIES", "DEFAULT ACL", "EXTENSION", "SCHEMA", "TYPE"),
    *("SEQUENCE", "SEQUENCE OWNED BY", "SEQUENCE SET"),
}
# Counted instead: their entries are grouped differently from one version to the next.
COUNTED = {"TABLE DATA", "BLOB", "BLOBS", "BLOB METADATA", "MATERIALIZED VIEW DATA"}


@dataclass(frozen=True, slots=True)
class Database:
    """One database of a dump: `tables` has rows and bytes of COPY data by schema.table; `objects` lists the
    schema.
    """

    tables: dict[str, tuple[int, int]]
    large_objects: int
    large_object_bytes: int
    objects: frozenset[str]

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the schema's sorted objects."""
        return hashlib.sha256("\n".join(sorted(self.objects)).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Contents:
    """All of a dump; `shared` lists digests of what belongs to no database."""

    roles: frozenset[str]
    shared: frozenset[str]
    databases: dict[str, Database]
    whole: bool

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(rows for database in self.databases.values() for rows, _ in database.tables.values())

    @property
    def tables(self) -> int:
        """Tables with or without rows."""
        return sum(len(database.tables) for database in self.databases.values())

    def summary(self) -> dict[str, Any]:
        """What the catalogue keeps as evidence (docs/backup.md); fingerprints in place of objects."""
        return {
            "roles": sorted(self.roles),
            "shared": digest("\n".join(sorted(self.shared)).encode()),
            "databases": {
                name: {
                    "tables": {table: list(counts) for table, counts in sorted(database.tables.items())},
                    "large_objects": database.large_objects,
                    "large_object_bytes": database.large_object_bytes,
                    "objects": len(database.objects),
                    "fingerprint": database.fingerprint,
                }
                for name, database in sorted(self.databases.items())
            },
        }

    def to_json(self) -> str:
        """`summary` as text."""
        return json.dumps(self.summary(), ensure_ascii=False, sort_keys=True)


@dataclass(slots=True)
class _Gathering:
    tables: dict[str, tuple[int, int]] = field(default_factory=dict)
    large_objects: int = 0
    large_object_bytes: int = 0
    entries: dict[tuple[str, str, str, str], list[str]] = field(default_factory=dict)


class Reader:
    """Reads a dump as it streams past: feed it blocks, then ask for `contents`.

    `database`: of a dump of one database by pg_dump, the one it is restored into.
    """

    def __init__(self, database: str = "") -> None:
        self._closing = CLOSING_ONE if database else CLOSING
        self._lexer = Lexer()
        self._roles: set[str] = set()
        self._shared: set[str] = set()
        self._databases: dict[str, _Gathering] = {}
        self._current: _Gathering | None = self._databases.setdefault(database, _Gathering()) if database else None
        self._entry: tuple[str, str, str, str] | None = None
        self._closed = False

    def feed(self, block: bytes) -> None:
        """Take in the next block of the dump, of any size."""
        for piece in self._lexer.feed(block):
            if piece.kind is not Kind.COMMENT:
                self._closed = False  # what ends a dump must be its end
            if piece.kind is Kind.STATEMENT:
                self._statement(piece.text)
            elif piece.kind is Kind.ROWS:
                assert self._current is not None
                self._current.tables[_table(piece.text)] = (piece.rows, piece.size)
            elif piece.kind is Kind.COMMENT:
                self._comment(piece.text)
            else:
                self._command(piece)

    @property
    def contents(self) -> Contents:
        """What was read so far; `whole` once its closing line has been read and nothing is unfinished."""
        databases = {
            name: Database(
                one.tables,
                one.large_objects,
                one.large_object_bytes,
                frozenset(line_of(entry, digests) for entry, digests in one.entries.items()),
            )
            for name, one in self._databases.items()
        }
        whole = self._closed and self._lexer.at_rest
        return Contents(frozenset(self._roles), frozenset(self._shared), databases, whole)

    def _comment(self, text: bytes) -> None:
        if entry := _ENTRY.fullmatch(text):
            name, kind, schema, owner = (part.decode(errors="replace").strip() for part in entry.groups())
            self._entry = (kind, schema, name, owner)
            if self._current is not None and kind not in COUNTED:
                self._current.entries.setdefault(self._entry, [])
        elif text == self._closing:
            self._closed = True

    def _command(self, piece: Piece) -> None:
        if piece.text.startswith(b"\\connect "):
            self._current = self._databases.setdefault(database_name(piece.text), _Gathering())
            # CREATE DATABASE stands before \connect, in the text of the database before; it is compared
            # there.
            self._entry = None

    def _statement(self, text: bytes) -> None:
        if text.startswith(b"SET "):
            return
        if self._current is None:
            if role := role_created(text):
                self._roles.add(role)
            else:
                self._shared.add(digest(_LOCATION.sub(rb"\1", text)))
        elif text.startswith(_WRITE):
            self._current.large_object_bytes += (text.rindex(b"'") - len(_WRITE)) // 2
        elif text.startswith(_CREATE):
            self._current.large_objects += 1
        elif self._entry in self._current.entries:
            assert self._entry is not None
            if kept := stable(self._entry[0], text):
                self._current.entries[self._entry].append(digest(kept))


def line_of(entry: tuple[str, str, str, str], digests: list[str]) -> str:
    """An object as it is compared: kind, name, owner, and the digests of its statements."""
    kind, schema, name, owner = entry
    return f"{kind} {schema}.{name} owner {owner or '-'} {digest(' '.join(sorted(digests)).encode())[:16]}"


def digest(text: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(text).hexdigest()


def stable(kind: str, text: bytes) -> bytes:
    """The part of a statement that every dump prints alike; empty when there is none."""
    if kind in _EXACT:
        return text
    if kind in ("FUNCTION", "PROCEDURE"):
        _, found, body = text.partition(b"\n    AS ")
        return body if found else b""
    if kind == "TABLE" and text.startswith(b"CREATE "):
        columns, _, _ = text.partition(b"\n    CONSTRAINT ")
        return b"\n".join(re.split(rb" DEFAULT | GENERATED ", line)[0].rstrip(b",") for line in columns.split(b"\n"))
    return b""


def role_created(statement: bytes) -> str:
    """The role that `CREATE ROLE …;` makes, also as `head.tolerant` writes it; else empty."""
    if statement.startswith(b"DO $atalaia"):
        statement = statement[statement.index(b"CREATE ROLE ") : statement.rindex(b" EXCEPTION WHEN ")]
    match = _ROLE.match(statement)
    return _names(match[1])[0] if match else ""


def _table(copy: bytes) -> str:
    """schema.table of a COPY statement, without quotes."""
    return ".".join(_names(copy[len(b"COPY ") :], 2))


def identifier(text: bytes, parts: int = 1) -> str:
    """The identifier that a text begins with, without quotes; schema.table with 2 `parts`."""
    return ".".join(_names(text, parts))


def _names(text: bytes, count: int = 1) -> list[str]:
    """The first `count` identifiers of a text, joined by dots, without their quotes."""
    names: list[str] = []
    position = 0
    while len(names) < count and (match := _IDENTIFIER.match(text, position)):
        name = match[1].replace(b'""', b'"') if match[1] is not None else match[2]
        names.append(name.decode(errors="replace"))
        position = match.end() + 1
    return names


def database_name(command: bytes) -> str:
    r"""The database of `\connect name` or `\connect -reuse-previous=on "dbname='odd name'"`."""
    argument = command[len(b"\\connect ") :].strip()
    odd = argument.removeprefix(b"-reuse-previous=on ")
    name = odd[1:-1].replace(b'""', b'"') if odd.startswith(b'"') else odd
    if odd is not argument and name.startswith(b"dbname="):
        name = re.sub(rb"\\(.)", rb"\1", name[len(b"dbname=") :].removeprefix(b"'").removesuffix(b"'"))
    return name.decode(errors="replace")


def differences(expected: Contents, found: Contents, limit: int = 10) -> list[str]:
    """How two dumps differ, in words, at most `limit` of each sort; empty if alike."""
    said = [*_sets("role", expected.roles, found.roles, limit)]
    if expected.shared != found.shared:
        said.append("roles' attributes, memberships or tablespaces differ")
    said += _sets("database", frozenset(expected.databases), frozenset(found.databases), limit)
    for name, one in sorted(expected.databases.items()):
        other = found.databases.get(name)
        if other is None:
            continue
        counts = []
        for table in sorted(one.tables.keys() | other.tables.keys()):
            (rows, size), (restored, restored_size) = (
                one.tables.get(table, (0, 0)),
                other.tables.get(table, (0, 0)),
            )
            if rows != restored:
                counts.append(f"{name}: table {table} has {restored} rows in place of {rows}")
            elif size != restored_size:
                counts.append(f"{name}: the {rows} rows of table {table} have {restored_size} bytes in place of {size}")
        said += counts[:limit]
        if (one.large_objects, one.large_object_bytes) != (other.large_objects, other.large_object_bytes):
            said.append(
                f"{name}: {other.large_objects} large objects of {other.large_object_bytes} bytes "
                f"in place of {one.large_objects} of {one.large_object_bytes}"
            )
        said += [f"{name}: {text}" for text in _sets("object", one.objects, other.objects, limit)]
    return said


def _sets(what: str, expected: frozenset[str], found: frozenset[str], limit: int) -> list[str]:
    missing = [f"{what} {name} is missing" for name in sorted(expected - found)[:limit]]
    return missing + [f"{what} {name} should not be there" for name in sorted(found - expected)[:limit]]
