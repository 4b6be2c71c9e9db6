"""Which objects of a dump a selection takes: tables with all that belongs to them and all that they need."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from atalaia.backup.model import Selection
from atalaia.backup.restoring.toc import RELATIONS, Entry
from atalaia.environment.errors import InputError

_INHERITS = re.compile(r"\nINHERITS \(")
# They belong to the table that they depend on.
_OF_ITS_TABLE = ("INDEX", "STATISTICS", "ROW SECURITY")
# They belong to the table that they alter, or whose name stands first in theirs.
_NAMED = ("DEFAULT", "CONSTRAINT", "CHECK CONSTRAINT", "FK CONSTRAINT", "TRIGGER", "RULE", "POLICY")
_PARTS = (*_OF_ITS_TABLE, *_NAMED)
# They follow what they depend on: taken when all of that is.
_FOLLOWERS = ("COMMENT", "ACL", "SECURITY LABEL", "SEQUENCE OWNED BY", "SEQUENCE SET", "TABLE ATTACH", "INDEX ATTACH")
# Rows and values are taken by themselves; the others are of the whole database or of nothing that a table needs.
_NEVER = (
    *("TABLE DATA", "MATERIALIZED VIEW DATA", "BLOB", "BLOBS", "BLOB METADATA", "DATABASE", "DATABASE PROPERTIES"),
    *("ENCODING", "STDSTRINGS", "SEARCHPATH", "PUBLICATION", "PUBLICATION TABLE", "SUBSCRIPTION", "EVENT TRIGGER"),
)


@dataclass(frozen=True, slots=True)
class Choice:
    """`relations` are taken with their rows; `parts` belong to them; `needed` must be there, or are made.

    `outward` are foreign keys to tables that are not taken, with the number of that table. `pointing` are foreign
    keys of other tables to those that are taken.
    """

    relations: tuple[Entry, ...]
    parts: tuple[Entry, ...]
    needed: tuple[Entry, ...]
    outward: tuple[tuple[Entry, Entry], ...]
    pointing: tuple[Entry, ...]


def choose(entries: Sequence[Entry], selection: Selection) -> Choice:
    """What the schemas and tables of a selection take.

    Raises InputError for a schema or table that is not there, naming those that are like it.
    """
    by_number = {entry.number: entry for entry in entries}
    relations = _relations(entries, selection)
    parts = [e for e in entries if _belongs(e, relations, by_number)]
    taken = {*relations, *(e.number for e in parts)}
    wanted = [e for e in entries if _whole(e, selection) and e.number not in taken]
    needed = _needed([*(by_number[n] for n in sorted(taken)), *wanted], taken, by_number)
    outward = []
    for key in (e for e in parts if e.kind == "FK CONSTRAINT"):
        for number in key.depends:
            other = by_number.get(number)
            if other and other.kind == "TABLE" and other.number not in relations:
                outward.append((key, other))
    pointing = [
        e for e in entries if e.kind == "FK CONSTRAINT" and e.number not in taken and relations & set(e.depends)
    ]
    numbers = {e.number for e in wanted} | needed
    return Choice(
        tuple(e for e in entries if e.number in relations),
        tuple(parts),
        tuple(e for e in entries if e.number in numbers and e.number not in taken),
        tuple(outward),
        tuple(pointing),
    )


def followers(entries: Sequence[Entry], taken: Set[int]) -> list[Entry]:
    """Comments, grants, owned sequences and attached partitions of what is taken in the end."""
    found = set(taken)
    chosen = []
    for entry in entries:
        if entry.kind in _FOLLOWERS and entry.depends and found.issuperset(entry.depends):
            found.add(entry.number)
            chosen.append(entry)
    return chosen


def _relations(entries: Sequence[Entry], selection: Selection) -> set[int]:
    found: set[int] = set()
    relations = [e for e in entries if e.kind in RELATIONS]
    schemas = {e.schema for e in entries} | {e.name for e in entries if e.kind == "SCHEMA"}
    for schema in selection.schemas:
        if schema not in schemas - {""}:
            raise InputError(f"there is no schema {schema!r} in it", f"there are: {_some(schemas - {''})}")
        found |= {e.number for e in relations if e.schema == schema}
    for table in selection.tables:
        named = {e.number for e in relations if f"{e.schema}.{e.name}" == table}
        if not named:
            last = table.rsplit(".", 1)[-1].lower()
            like = [f"{e.schema}.{e.name}" for e in relations if last in e.name.lower()]
            like = like or [f"{e.schema}.{e.name}" for e in relations if e.kind == "TABLE"]
            raise InputError(f"there is no table {table!r} in it", f"give SCHEMA.TABLE; there are: {_some(like)}")
        found |= named
    # Partitions and tables that inherit come along; pg_dump lists them behind their parents.
    attached = {e.depends for e in entries if e.kind == "TABLE ATTACH"}
    for entry in relations:
        inherits = _INHERITS.search(entry.definition)
        for number in entry.depends:
            if number in found and (inherits or any({entry.number, number} <= set(pair) for pair in attached)):
                found.add(entry.number)
    return found


def _belongs(entry: Entry, relations: Set[int], by_number: dict[int, Entry]) -> bool:
    owners = [by_number[number] for number in entry.depends if number in relations]
    if not owners or entry.number in relations:
        return False
    if entry.kind == "SEQUENCE":
        return True  # a sequence that depends on a table is owned by one of its columns
    if entry.kind in _OF_ITS_TABLE:
        return True
    if entry.kind not in _NAMED:
        return False
    if altered := entry.altered:
        return any(altered == (owner.schema, owner.name) for owner in owners)
    return any(entry.schema == owner.schema and entry.name.startswith(f"{owner.name} ") for owner in owners)


def _whole(entry: Entry, selection: Selection) -> bool:
    """Whether it is taken for itself: part of a schema that is taken."""
    if entry.kind in (*_PARTS, *_FOLLOWERS, *RELATIONS, *_NEVER):
        return False
    return entry.schema in selection.schemas or (entry.kind == "SCHEMA" and entry.name in selection.schemas)


def _needed(start: Iterable[Entry], taken: Set[int], by_number: dict[int, Entry]) -> set[int]:
    """All that the definitions rest on: schemas, types, functions, sequences, extensions, parents that they inherit."""
    found: set[int] = set()
    waiting = list(start)
    while waiting:
        entry = waiting.pop()
        inherits = _INHERITS.search(entry.definition)
        for number in entry.depends:
            other = by_number.get(number)
            if other is None or number in taken or number in found:
                continue
            if other.kind in (*_PARTS, *_FOLLOWERS, *_NEVER):
                continue  # an index of the partitioned table, a key that a foreign key needs
            if other.kind == "TABLE" and (entry.kind in _PARTS or (entry.kind == "TABLE" and not inherits)):
                continue  # the partitioned table of one partition; what foreign keys and policies look at
            found.add(number)
            waiting.append(other)
    return found


def _some(names: Iterable[str], limit: int = 12) -> str:
    listed = sorted(names)
    return ", ".join(listed[:limit]) + (f" and {len(listed) - limit} more" if len(listed) > limit else "")
