"""Puts schemas and tables into a database of a running server, in one transaction: all of it, or nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql
from psycopg.errors import (
    DuplicateFunction,
    DuplicateObject,
    DuplicateSchema,
    DuplicateTable,
    UniqueViolation,
)

from atalaia.backup.model import Progress, Selection, advance, logfmt
from atalaia.backup.restoring.choice import Choice, choose, followers
from atalaia.backup.restoring.sources import Source
from atalaia.backup.restoring.toc import RELATIONS, Entry, quoted
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect

_log = logging.getLogger("atalaia.backup")
_THERE = (DuplicateFunction, DuplicateObject, DuplicateSchema, DuplicateTable, UniqueViolation)
_ASIDE = "atalaia aside"
Connection = psycopg.Connection[Any]


@dataclass(frozen=True, slots=True)
class Landed:
    """What was put where: rows of each table, what was remarked (left out, found there already)."""

    tables: Mapping[str, int]
    remarks: tuple[str, ...]


def land(
    source: Source,
    cluster: Cluster,
    database: str,
    selection: Selection,
    progress: Progress,
    renamed: Mapping[str, str] | None = None,
) -> Landed:
    """Put a selection of schemas and tables into `database`, which exists; `renamed` schemas get another name there.

    Raises InputError, naming all of it, when something of it is there already; AtalaiaError with the server's words
    when it cannot be done. Nothing is changed then.
    """
    choice = choose(source.entries, selection)
    try:
        with connect(cluster, database) as connection:
            landed = _Landing(source, connection, choice, dict(renamed or {}), progress).run()
    except psycopg.Error as error:
        said = str(error).strip().splitlines()
        detail = next((line.strip() for line in said if line.startswith("DETAIL")), "")
        raise AtalaiaError(
            f"it could not be put into {database} of {cluster.name}: {' '.join((said[0], detail)).strip()}",
            "nothing was changed there; correct that, or put it into a new database: --into SERVER/NEW_NAME",
        ) from error
    with connect(cluster, database, autocommit=True) as connection:
        for entry in choice.relations:
            if entry.kind == "TABLE":
                schema = (renamed or {}).get(entry.schema, entry.schema)
                connection.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(schema, entry.name)))
    names = " ".join(landed.tables)
    _log.info(logfmt("selection_restored", server=cluster.name, database=database, tables=names))
    return landed


class _Landing:
    def __init__(
        self, source: Source, connection: Connection, choice: Choice, renamed: dict[str, str], progress: Progress
    ) -> None:
        self._source, self._connection, self._choice = source, connection, choice
        self._renamed, self._progress = renamed, progress
        self._remarks: list[str] = []
        self._made: list[Entry] = []

    def run(self) -> Landed:
        self._connection.execute("SET LOCAL lock_timeout = '60s'")
        self._step_aside()
        self._refuse_what_is_there()
        roles = self._add_missing_roles()
        taken = self._prepare()
        self._define(taken, "pre-data")
        rows = self._copy()
        self._define(taken, "post-data")
        self._drop_roles(roles)
        self._step_back()
        return Landed(rows, tuple(self._remarks))

    def _execute(self, text: str) -> None:
        if text.strip():
            self._connection.execute(text.encode(errors="surrogateescape"))
            # pg_restore's scripts leave an empty search_path for the session; names are always qualified.

    def _step_aside(self) -> None:
        """Schemas to be renamed: the one of that name makes room for a moment that nobody else sees."""
        for old, new in self._renamed.items():
            if self._there("SELECT to_regnamespace(quote_ident(%s))", new):
                raise InputError(f"there is a schema {new!r} already", "give another name to --rename-schema")
            if self._there("SELECT to_regnamespace(quote_ident(%s))", old):
                self._execute(f"ALTER SCHEMA {quoted(old)} RENAME TO {quoted(f'{_ASIDE} {old}')}")
            self._execute(f"CREATE SCHEMA {quoted(old)}")

    def _step_back(self) -> None:
        for old, new in self._renamed.items():
            self._execute(f"ALTER SCHEMA {quoted(old)} RENAME TO {quoted(new)}")
            aside = f"{_ASIDE} {old}"
            if self._there("SELECT to_regnamespace(quote_ident(%s))", aside):
                self._execute(f"ALTER SCHEMA {quoted(aside)} RENAME TO {quoted(old)}")

    def _there(self, query: str, *values: str) -> bool:
        row = self._connection.execute(query.encode(), values).fetchone()
        return bool(row and row[0] is not None)

    def _relation(self, entry: Entry) -> bool:
        return self._there("SELECT to_regclass(quote_ident(%s) || '.' || quote_ident(%s))", entry.schema, entry.name)

    def _refuse_what_is_there(self) -> None:
        found = [f"{e.kind.lower()} {e.schema}.{e.name}" for e in self._choice.relations if self._relation(e)]
        found += [
            f"sequence {e.schema}.{e.name}" for e in self._choice.parts if e.kind == "SEQUENCE" and self._relation(e)
        ]
        if found:
            raise InputError(
                f"nothing is overwritten, and these are there already: {', '.join(found)}",
                "nothing was changed; put it beside with --rename-schema OLD=NEW, or into a new database with "
                "--into SERVER/NEW_NAME, or rename or drop what is there",
            )

    def _add_missing_roles(self) -> list[str]:
        """Owners and grantees that the server does not know exist until the end of the transaction."""
        known = {row[0] for row in self._connection.execute("SELECT rolname FROM pg_roles").fetchall()}
        missing = sorted({*self._source.roles, *(e.owner for e in self._source.entries if e.owner)} - known)
        for role in missing:
            self._execute(f"CREATE ROLE {quoted(role)}")
        return missing

    def _drop_roles(self, roles: Iterable[str]) -> None:
        for role in roles:
            used = self._there(
                "SELECT 1 FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass"
                " AND refobjid = (SELECT oid FROM pg_roles WHERE rolname = %s) LIMIT 1",
                role,
            )
            if used:
                self._remarks.append(
                    f"there is no role {role} here: what it owned belongs to postgres, its grants are left out"
                )
                self._execute(f"REASSIGN OWNED BY {quoted(role)} TO CURRENT_USER; DROP OWNED BY {quoted(role)}")
            self._execute(f"DROP ROLE {quoted(role)}")

    def _prepare(self) -> list[Entry]:
        """Make what is needed and not there yet; all that is taken in the end, in the dump's order."""
        for entry in self._choice.needed:
            if self._make(entry):
                self._made.append(entry)
                if entry.kind == "TABLE":
                    self._remarks.append(f"{entry.label} was made without its rows, for what was taken needs it")
            elif not (entry.kind == "SCHEMA" and entry.name in self._renamed):
                self._remarks.append(f"{entry.label} is there already and was left as it is")
        made = {entry.number for entry in self._made}
        parts = {e.number for e in self._choice.parts}
        own = {e.number for e in self._choice.relations}
        for key, table in self._choice.outward:
            if table.number not in made and not self._relation(table):
                parts.discard(key.number)
                statement = " ".join(key.definition.split())
                self._remarks.append(f"left out, for there is no table {table.schema}.{table.name} here: {statement}")
        for key in self._choice.pointing:
            self._remarks.append(
                f"not restored, for it belongs to another table (add it again if it was lost): "
                f"{' '.join(key.definition.split())}"
            )
        later = followers(self._source.entries, {*own, *parts, *made})
        numbers = {*own, *parts, *(e.number for e in later)}
        return [e for e in self._source.entries if e.number in numbers]

    def _make(self, entry: Entry) -> bool:
        """Make an object unless one of its name is there."""
        if entry.kind == "SCHEMA" and self._there("SELECT to_regnamespace(quote_ident(%s))", entry.name):
            return False
        if entry.kind == "EXTENSION" and self._there("SELECT oid FROM pg_extension WHERE extname = %s", entry.name):
            return False
        if entry.kind in RELATIONS and self._relation(entry):
            return False
        try:
            with self._connection.transaction():
                self._execute(self._source.script([entry]))
        except _THERE:
            return False
        return True

    def _define(self, taken: Sequence[Entry], section: str) -> None:
        self._execute(self._source.script([e for e in taken if e.kind != "SEQUENCE SET"], section))

    def _copy(self) -> dict[str, int]:
        """The rows of all tables, then the values of all sequences."""
        copied: dict[str, int] = {}
        for entry in self._choice.relations:
            rows = self._source.rows(entry) if entry.kind == "TABLE" else None
            if rows is None:
                continue
            name = f"{entry.schema}.{entry.name}"
            done = 0
            with self._connection.cursor() as cursor:
                with cursor.copy(rows.statement.encode(errors="surrogateescape")) as copy:
                    for block in rows.blocks:
                        copy.write(block)
                        done += len(block)
                        advance(self._progress, name, done, rows.size)
                copied[name] = cursor.rowcount
            self._progress(f"{name}: {copied[name]} rows")
        for entry in (*self._made, *self._choice.relations, *self._choice.parts):
            if entry.kind == "SEQUENCE":
                self._execute(self._source.value(entry))
            elif entry.kind == "MATERIALIZED VIEW":
                self._execute(f"REFRESH MATERIALIZED VIEW {quoted(entry.schema)}.{quoted(entry.name)}")
        return copied
