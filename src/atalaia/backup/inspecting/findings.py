"""What an inspection says of a dump."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any


class Effect(IntEnum):
    """What a finding means for a restore; the greatest of a dump's is its verdict."""

    NOTE = 0
    WARNING = 1
    REPAIR = 2
    UNKNOWN = 3
    PARTIAL = 4
    FATAL = 5


VERDICTS = {
    Effect.NOTE: "restorable as it is",
    Effect.WARNING: "restorable as it is",
    Effect.REPAIR: "restorable after repair",
    Effect.UNKNOWN: "not read here: it may be whole or not",
    Effect.PARTIAL: "restorable in part",
    Effect.FATAL: "not restorable",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about a dump: `code` for programs, `what` happened to it, what to do about it."""

    code: str
    effect: Effect
    what: str
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """A table's rows and bytes in a dump."""

    database: str
    name: str
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class Contents:
    """What is in a dump. A database without a name in it is called ``-``."""

    databases: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    large_objects: int = 0

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables)


@dataclass(frozen=True, slots=True)
class Report:
    """What was found out about a file. `size` is that of the file, `raw_size` of what it holds, both in bytes.

    `form` is text, custom, tar, directory, or in words what it is instead. `commands` restore it safely.
    """

    path: str
    form: str
    scope: str
    compression: str
    size: int
    raw_size: int
    server_version: str
    client_version: str
    contents: Contents
    findings: tuple[Finding, ...]
    commands: tuple[str, ...]

    @property
    def effect(self) -> Effect:
        """The worst of the findings' effects."""
        return max((finding.effect for finding in self.findings), default=Effect.NOTE)

    @property
    def verdict(self) -> str:
        """Whether it restores."""
        return VERDICTS[self.effect]

    @property
    def restorable(self) -> bool:
        """Whether it restores as it is."""
        return self.effect < Effect.REPAIR

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "path": self.path,
            "verdict": self.verdict,
            "restorable": self.restorable,
            "form": self.form,
            "scope": self.scope,
            "compression": self.compression,
            "size": self.size,
            "raw_size": self.raw_size,
            "server_version": self.server_version,
            "client_version": self.client_version,
            "findings": [
                {"code": f.code, "effect": f.effect.name.lower(), "what": f.what, "remedy": f.remedy}
                for f in self.findings
            ],
            "databases": list(self.contents.databases),
            "roles": list(self.contents.roles),
            "rows": self.contents.rows,
            "large_objects": self.contents.large_objects,
            "tables": [
                {"database": t.database, "table": t.name, "rows": t.rows, "size": t.size} for t in self.contents.tables
            ],
            "commands": list(self.commands),
        }


def listed(names: Iterable[str], limit: int = 6) -> str:
    """Names for a sentence, at most `limit` of them."""
    every = list(names)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more
