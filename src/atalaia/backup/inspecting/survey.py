"""What a text dump says, gathered piece by piece; and the edits that make a safe copy of it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from atalaia.backup.inspecting.secrets import secrets_in
from atalaia.backup.plain.contents import database_name, identifier, role_created
from atalaia.backup.plain.lexer import Kind, Piece

CLUSTER = b"-- PostgreSQL database cluster dump"
DATABASE = b"-- PostgreSQL database dump"
_VERSION = re.compile(rb"-- Dumped (from database|by pg_dump) version (\S+)")
_WORD = re.compile(
    rb"(?:CREATE|ALTER|SET|SELECT|COPY|INSERT|COMMENT|GRANT|REVOKE|DROP|DO|REFRESH|LOCK|ANALYZE|BEGIN|COMMIT|START|"
    rb"VALUES|UPDATE|DELETE|SECURITY|IMPORT|REINDEX|CLUSTER|TRUNCATE|RESET|WITH|CALL|ROLLBACK|REASSIGN|VACUUM|"
    rb"CHECKPOINT|END)\b",
    re.I,
)
_LINE = re.compile(rb"^(?:" + _WORD.pattern + rb"|--)", re.M | re.I)
_DROP = re.compile(rb"DROP (DATABASE|ROLE|USER|TABLESPACE|SCHEMA|[A-Z ]+?) (?:IF EXISTS )?(.*);\Z", re.S)
_ALTER_DROP = re.compile(rb"ALTER (?:TABLE|DOMAIN|PUBLICATION) .* DROP (?:CONSTRAINT|DEFAULT|IDENTITY)\b.*;\Z", re.S)
_GRANTEE = re.compile(
    rb"(?:ALTER [^']*? OWNER|GRANT [^']*?|CREATE POLICY [^']*?|ALTER DEFAULT PRIVILEGES FOR ROLE (\S+).*?) TO ([^;]*)",
    re.S,
)
_ENCODING = re.compile(rb"SET client_encoding = '([^']*)'")
_PUBLIC = b"CREATE SCHEMA public;"
_NOT_TEMPLATE = b"UPDATE pg_catalog.pg_database SET datistemplate = false"


@dataclass(frozen=True, slots=True)
class Edit:
    """Bytes `start` to `end` of the text without stray lines become `new`; `why` is a word for the summary."""

    start: int
    end: int
    new: bytes
    why: str


@dataclass(slots=True)
class Dump:
    """One dump in the text: cluster or database, where it begins, whether its closing line was there."""

    scope: str
    start: int
    closed: bool = False


@dataclass(slots=True)
class Survey:
    """What was read so far."""

    dumps: list[Dump] = field(default_factory=list)
    server_version: str = ""
    client_version: str = ""
    encodings: set[str] = field(default_factory=set)
    scs_off: bool = False
    databases: dict[str, None] = field(default_factory=dict)
    roles: dict[str, None] = field(default_factory=dict)
    tables: dict[tuple[str, str], tuple[int, int]] = field(default_factory=dict)
    wanted_roles: dict[str, None] = field(default_factory=dict)
    large_objects: int = 0
    dropped: dict[str, list[str]] = field(default_factory=dict)
    secrets: Counter[str] = field(default_factory=Counter)
    tablespaces: list[str] = field(default_factory=list)
    extensions: dict[str, None] = field(default_factory=dict)
    functions: int = 0
    inserts: bool = False
    restricted: bool = False
    carriage: int = 0
    foreign: list[str] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    current: str = "-"
    base: int = 0  # where the output of the pg_dump that is read begins
    last_table: str = ""
    entries_begun: bool = False

    def take(self, piece: Piece) -> None:
        """Take in the next piece."""
        if piece.kind is Kind.COMMENT:
            self._comment(piece)
        elif piece.kind is Kind.ROWS:
            self.rows(piece.text, piece.rows, piece.size)
        elif piece.kind is Kind.COMMAND:
            self._command(piece)
        else:
            self._statement(piece)

    @property
    def dump(self) -> Dump | None:
        """The dump that is being read."""
        return self.dumps[-1] if self.dumps else None

    def _comment(self, piece: Piece) -> None:
        text = piece.text
        if text.endswith(b"\r"):
            self.carriage += 1
            text = text.rstrip(b"\r")
        dump = self.dump
        if text == CLUSTER:
            self._begin("cluster", piece)
        elif text == DATABASE:
            self.base = piece.start - len(b"--\n")
            self.entries_begun = False
            if dump is None or dump.closed or dump.scope == "database":
                self._begin("database", piece)
        elif text in (CLUSTER + b" complete", DATABASE + b" complete"):
            if dump and dump.scope == ("cluster" if text.startswith(CLUSTER) else "database"):
                dump.closed = True
        elif text.startswith((b"-- Name: ", b"-- Data for Name: ")):
            self.entries_begun = True
        elif match := _VERSION.match(text):
            version = match[2].decode(errors="replace")
            if match[1] == b"from database":
                self.server_version = self.server_version or version
            else:
                self.client_version = self.client_version or version

    def _begin(self, scope: str, piece: Piece) -> None:
        # The line "--" stands before it.
        self.dumps.append(Dump(scope, max(0, piece.start - len(b"--\n"))))
        self.current = "-"
        self.entries_begun = False

    def _command(self, piece: Piece) -> None:
        if piece.text.startswith(b"\\connect "):
            self.current = database_name(piece.text.rstrip(b"\r"))
            self.databases.setdefault(self.current)
        elif piece.text.startswith(b"\\restrict "):
            self.restricted = True

    def rows(self, text: bytes, rows: int, size: int) -> None:
        """Count the rows behind a COPY statement or an INSERT's beginning."""
        if text.startswith(b"COPY "):
            table = identifier(text[len(b"COPY ") :], 2)
        else:
            self.inserts = True
            table = identifier(text[len(b"INSERT INTO ") :], 2)
        self.last_table = table
        self._database()
        before = self.tables.get((self.current, table), (0, 0))
        self.tables[self.current, table] = before[0] + rows, before[1] + size

    def _database(self) -> None:
        self.databases.setdefault(self.current)

    def _edit(self, piece: Piece, new: bytes, why: str) -> None:
        end = piece.end if new else piece.end + 1  # with its line end
        self.edits.append(Edit(piece.start, end, new, why))

    def _statement(self, piece: Piece) -> None:
        text = piece.text
        if not _WORD.match(text):
            found = _LINE.search(text)
            cut = found.start() if found else len(text)
            self.foreign.append(text[:cut].decode(errors="replace").strip())
            if not found:
                return
            self.edits.append(Edit(piece.start, piece.start + cut, b"", "foreign text"))
            piece = Piece(piece.kind, piece.start + cut, piece.end, text[cut:])
            text = piece.text
        if secret := secrets_in(text):
            self.secrets[secret] += 1
        word = text[:6]
        if word == b"INSERT":
            self.rows(text[: text.find(b" VALUES")], 1, len(text))
        elif word == b"CREATE":
            self._create(piece)
        elif role := role_created(text):
            self.roles.setdefault(role)
        elif word.startswith(b"DROP "):
            self._drop(piece)
        elif text.startswith((b"ALTER ", b"GRANT ", b"CREATE POLICY ")) and (granted := _GRANTEE.match(text)):
            for name in filter(None, granted.groups()):
                self.wanted_roles.setdefault(identifier(name, 1))
        elif word == b"ALTER " and not self.entries_begun and _ALTER_DROP.match(text):
            self.dropped.setdefault("CONSTRAINT", []).append("")
            self._edit(piece, b"", "drop")
        elif text.startswith(b"SELECT pg_catalog.lo_create("):
            self.large_objects += 1
            self._database()
        elif text.startswith(b"SET client_encoding") and (match := _ENCODING.match(text)):
            self.encodings.add(match[1].decode(errors="replace"))
        elif text == b"SET standard_conforming_strings = off;":
            self.scs_off = True
        elif text.startswith(_NOT_TEMPLATE):
            self._edit(piece, b"", "drop")

    def _drop(self, piece: Piece) -> None:
        match = _DROP.match(piece.text)
        what, name = (match[1].decode(), identifier(match[2], 1)) if match else ("", "")
        self.dropped.setdefault(what, []).append(name)
        self._edit(piece, b"", "drop")

    def _create(self, piece: Piece) -> None:
        text = piece.text
        if text.startswith(b"CREATE ROLE "):
            role = role_created(text)
            self.roles.setdefault(role)
            tag = b"$atalaia$" if b"$atalaia$" not in text else b"$atalaia_role$"
            tolerant = b"DO " + tag + b"BEGIN " + text + b" EXCEPTION WHEN duplicate_object THEN NULL; END" + tag + b";"
            self._edit(piece, tolerant, "role")
        elif text.startswith(b"CREATE DATABASE "):
            name = identifier(text[len(b"CREATE DATABASE ") :], 1)
            self.databases.setdefault(name)
            if name in ("postgres", "template1"):
                self._edit(piece, b"", "database")
        elif text == _PUBLIC:
            self._edit(piece, b"CREATE SCHEMA IF NOT EXISTS public;", "schema")
        elif text.startswith(b"CREATE TABLESPACE "):
            self.tablespaces.append(identifier(text[len(b"CREATE TABLESPACE ") :], 1))
        elif text.startswith(b"CREATE EXTENSION "):
            self.extensions.setdefault(identifier(text.removeprefix(b"CREATE EXTENSION IF NOT EXISTS "), 1))
        elif text.startswith((b"CREATE FUNCTION ", b"CREATE PROCEDURE ")):
            self.functions += 1
