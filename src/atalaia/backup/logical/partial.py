"""Dumps of a part of a server: pg_dump's options for what settings select, and what such a dump cannot restore."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from atalaia.backup.logical.toc import Toc
from atalaia.backup.restoring.toc import Entry, unquoted
from atalaia.environment.backing import BackupsSettings
from atalaia.environment.errors import InputError

_NAME = r'(?:"(?:[^"]|"")*"|[^\s."(]+)'
_REFERENCES = re.compile(rf" REFERENCES (?:ONLY )?({_NAME})\.({_NAME})\(")
_EXTENSION = re.compile(rf" WITH SCHEMA ({_NAME});")


def options(settings: BackupsSettings) -> tuple[str, ...]:
    """pg_dump's options of `[backups]`: patterns as pg_dump and psql read them."""
    chosen = [
        *(f"--schema={pattern}" for pattern in settings.schemas),
        *(f"--table={pattern}" for pattern in settings.tables),
    ]
    if chosen:
        chosen.append("--extension=*")  # types of a table's columns may come from them
    return (
        *chosen,
        *(f"--exclude-schema={pattern}" for pattern in settings.exclude_schemas),
        *(f"--exclude-table={pattern}" for pattern in settings.exclude_tables),
        *(f"--exclude-table-data={pattern}" for pattern in settings.exclude_data),
    )


def selected(names: Iterable[str], settings: BackupsSettings) -> tuple[str, ...]:
    """Those databases that `databases` and `exclude_databases` leave: names, or patterns with `*` and `?`.

    Raises InputError when nothing is left, or a name that is asked for does not exist.
    """
    names = tuple(names)
    for wanted in settings.databases:
        if not any(fnmatchcase(name, wanted) for name in names):
            raise InputError(
                f"there is no database {wanted!r}, which [backups] databases names",
                f"there are {', '.join(names)}",
            )
    found = tuple(
        name
        for name in names
        if (not settings.databases or any(fnmatchcase(name, wanted) for wanted in settings.databases))
        and not any(fnmatchcase(name, left) for left in settings.exclude_databases)
    )
    if not found:
        raise InputError("[backups] exclude_databases leaves no database to back up", "correct it in atalaia.toml")
    return found


def hanging(contents: Toc) -> tuple[Entry, ...]:
    """Foreign keys to tables that, or whose rows, are not in the dump: they cannot be made of it."""
    made = {(e.schema, e.name): "PARTITION BY" in e.definition for e in contents.entries if e.kind == "TABLE"}
    filled = {(e.schema, e.name) for e in contents.data}
    return tuple(
        entry
        for entry in contents.entries
        if entry.kind == "FK CONSTRAINT"
        and (target := referenced(entry))
        and not (target in made and (made[target] or target in filled))
    )


def referenced(entry: Entry) -> tuple[str, str] | None:
    """Schema and name of the table that a foreign key leads to."""
    match = _REFERENCES.search(entry.definition)
    return (unquoted(match[1]), unquoted(match[2])) if match else None


def absent_schemas(contents: Toc) -> list[str]:
    """Schemas that objects of the dump need and the dump does not make; they may exist without it."""
    made = {entry.name for entry in contents.entries if entry.kind == "SCHEMA"}
    needed = {entry.schema for entry in contents.entries if entry.schema}
    for entry in contents.entries:
        if entry.kind == "EXTENSION" and (match := _EXTENSION.search(entry.definition)):
            needed.add(unquoted(match[1]))
    return sorted(needed - made)


def listing(entries: Iterable[Entry]) -> str:
    """A list for `pg_restore --use-list`, which reads only the number of each line."""
    return "".join(f"{entry.number}; 0 0 {entry.kind}\n" for entry in entries)
