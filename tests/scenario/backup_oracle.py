"""What a whole server holds, exactly: read by PostgreSQL's own tools and SQL, with none of Atalaia's backup code.

`content(...)` of the source when a backup is made and of what it is restored to must be equal: `differences` is empty.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

Content = Mapping[str, str]
_SETTINGS = (
    "SET timezone = 'UTC'",
    "SET datestyle = 'ISO, YMD'",
    "SET intervalstyle = 'postgres'",
    "SET bytea_output = 'hex'",
    "SET extra_float_digits = 3",
    "SET lc_monetary = 'C'",
    "SET row_security = off",
    "SET search_path = pg_catalog",
)
# Leaves of partitioned tables hold their rows; a materialized view holds rows of its own.
_TABLES = (
    "SELECT n.nspname, c.relname, c.relpersistence = 'u' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
    "WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND c.relispopulated "
    "AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)' ORDER BY 1, 2"
)
_SEQUENCES = (
    "SELECT n.nspname, c.relname, s.seqincrement FROM pg_sequence s JOIN pg_class c ON c.oid = s.seqrelid "
    "JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relpersistence <> 't' ORDER BY 1, 2"
)
_LARGE_OBJECTS = (
    "SELECT oid, pg_get_userbyid(lomowner), coalesce(lomacl::text, ''), md5(lo_get(oid)), length(lo_get(oid)), "
    "obj_description(oid, 'pg_largeobject') FROM pg_largeobject_metadata ORDER BY oid"
)
_DATABASES = (
    "SELECT datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit, "
    "datistemplate, datallowconn, shobj_description(oid, 'pg_database') FROM pg_database ORDER BY 1"
)
# What differs between two dumps of the same: versions, the random word of \\restrict, places of tablespaces, and the
# password of the superuser, which a restored server gets anew.
_VOLATILE = re.compile(
    r"^(\\(un)?restrict .*|-- (Dumped|Started|Completed) .*|ALTER ROLE postgres WITH .*)$", re.MULTILINE
)
_LOCATION = re.compile(r"^(CREATE TABLESPACE .*) LOCATION '.*';$", re.MULTILINE)
_BLOCK = re.compile(r"\n(?=--\n-- (?:Name|TOC entry|Data for Name|User Config|Database)\b)")


@dataclass(frozen=True, slots=True)
class Server:
    """How to reach a server as its superuser: `host` may be a socket's directory; `programs` has its pg_dump."""

    host: str
    port: int
    programs: Path
    password: str = ""
    user: str = "postgres"

    def connect(self, database: str = "postgres") -> psycopg.Connection[Any]:
        """A connection that commits each statement."""
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=self.user,
            password=self.password or None,
            dbname=database,
            autocommit=True,
            connect_timeout=10,
        )

    def dump(self, program: str, *arguments: str) -> str:
        """What pg_dump or pg_dumpall prints."""
        given = {"PGHOST": self.host, "PGPORT": str(self.port), "PGUSER": self.user, "PGPASSWORD": self.password}
        done = subprocess.run(
            [self.programs / program, "--no-password", *arguments],
            env={**os.environ, **given},
            cwd="/",
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


def content(server: Server) -> Content:
    """Everything: rows of all tables in order, sequences, large objects, schema, ACLs, comments, roles, settings.

    Keys tell what it is; values are digests, or the text itself where it is short.
    """
    found: dict[str, str] = {}
    roles = _LOCATION.sub(r"\1;", _VOLATILE.sub("", server.dump("pg_dumpall", "--globals-only")))
    for line in sorted(line for line in roles.splitlines() if line and not line.startswith("--")):
        found[f"roles: {line}"] = ""
    with server.connect() as connection:
        databases = connection.execute(_DATABASES).fetchall()
    for row in databases:
        found[f"database {row[0]!r}"] = repr(row[1:])
        if row[7] and row[0] != "template0":
            found |= {f"{row[0]!r} {what}": value for what, value in _database(server, row[0])}
    return found


def _database(server: Server, name: str) -> Iterator[tuple[str, str]]:
    with server.connect(name) as connection:
        for statement in _SETTINGS:
            connection.execute(statement.encode())
        for schema, table, unlogged in connection.execute(_TABLES).fetchall():
            kind = "unlogged rows" if unlogged else "rows"
            yield f"{kind} of {schema}.{table}", _rows(connection, sql.Identifier(schema, table))
        for schema, sequence, step in connection.execute(_SEQUENCES).fetchall():
            at = connection.execute(
                sql.SQL("SELECT last_value, is_called FROM {}").format(sql.Identifier(schema, sequence))
            ).fetchone()
            assert at
            yield f"sequence {schema}.{sequence}", f"{at[0]} {at[1]} {step}"
        for number, *rest in connection.execute(_LARGE_OBJECTS).fetchall():
            yield f"large object {number}", repr(rest)
    text = server.dump("pg_dump", "--schema-only", "--create", f"--dbname={_quoted(name)}")
    for block in _BLOCK.split(_LOCATION.sub(r"\1;", _VOLATILE.sub("", text))):
        # The order of statements depends on OIDs; each of them does not.
        yield f"schema: {block.strip()}", ""


def _rows(connection: psycopg.Connection[Any], table: sql.Identifier) -> str:
    """How many rows, and the SHA-256 of all of them in the order of their text, as COPY writes them."""
    digest, rows = hashlib.sha256(), 0
    query = sql.SQL('COPY (SELECT "~ row".* FROM {} "~ row" ORDER BY "~ row"::text COLLATE "C") TO STDOUT').format(
        table
    )
    with connection.cursor().copy(query) as copy:
        for row in copy:
            digest.update(row)
            rows += 1
    return f"{rows} {digest.hexdigest()}"


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


def differences(recorded: Content, restored: Content, *, crashed: bool = False) -> list[str]:
    """What is not as it was recorded, in words; empty when all of it is equal.

    `crashed`: the restored server began with crash recovery (a physical backup): unlogged tables are empty then, and
    sequences may have jumped forward by the 32 values that PostgreSQL logs in advance.
    """
    if crashed:
        recorded = {key: value for key, value in recorded.items() if not _is_unlogged(key)}
        restored = {key: value for key, value in restored.items() if not _is_unlogged(key)}
    found = [f"gone: {key[:300]} ({value})" for key, value in recorded.items() if key not in restored]
    found += [f"new: {key[:300]} ({value})" for key, value in restored.items() if key not in recorded]
    for key, value in recorded.items():
        other = restored.get(key, value)
        if other != value and not (crashed and " sequence " in key and _jumped(value, other)):
            found.append(f"other: {key[:300]}: {value} became {other}")
    return found


def _is_unlogged(key: str) -> bool:
    return " unlogged rows of " in key


def _jumped(before: str, after: str) -> bool:
    first, _, step = before.split()
    last = after.split()[0]
    return 0 <= (int(last) - int(first)) // int(step) <= 33
