"""The nouns of backups: what the catalogue knows of one, how it was verified, where it was restored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any

from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import Cluster
from atalaia.runtime.process import Process

Progress = Callable[[str], None]


def advance(progress: Progress, what: str, done: int, total: int) -> None:
    """Tell how far a long work is, in bytes: to whoever shows bars; others are told in lines only."""
    shown = getattr(progress, "advance", None)
    if shown is not None:
        shown(what, done, total)


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a server is wanted; empty means all. Schemas and tables (`schema.table`) are of `databases`' only one."""

    databases: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()
    tables: tuple[str, ...] = ()

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return not (self.databases or self.schemas or self.tables)


@dataclass(frozen=True, slots=True)
class Target:
    """The point in time to recover to: one of time (UTC), LSN (`1/2A3B4C`), restore point's name; or the end of WAL.

    `inclusive` False stops just before it. `timeline` is a number, `latest` or `current`.
    """

    time: datetime | None = None
    lsn: str = ""
    name: str = ""
    inclusive: bool = True
    timeline: str = "latest"


@dataclass(frozen=True, slots=True)
class Wanted:
    """How to restore: `target` None is the end of the backup itself; `jobs` is how much is done at once."""

    target: Target | None = None
    selection: Selection = Selection()
    jobs: int = 2


ALL = Wanted()
"""All of a backup, as it was when it was made."""


class State(Enum):
    """What a backup is. Only complete and verified ones can be restored."""

    RUNNING = "running"
    COMPLETE = "complete"
    VERIFIED = "verified"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verification:
    """One restore test: `seconds` is how long the restore itself took, the evidence of the recovery time.

    `detail` says what differed when it has not passed.
    """

    at: datetime
    passed: bool
    seconds: float
    server_version: str
    detail: str


@dataclass(frozen=True, slots=True)
class Copy:
    """A backup in one of the further repositories: there since `at`, or, with `problem`, not there since then."""

    repository: str
    at: datetime
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Backup:
    """One row of the catalogue. Times are UTC; `size` is stored bytes, `raw_size` those before compression.

    `kind` is plain, logical or physical; `parent` the backup that an incremental one builds on. `sha256` is that of
    its manifest, which names all else with checksums. `contents` is what was recorded to compare a restore with,
    `settings` of the server what a restore needs, `details` what its kind keeps (start and stop LSN, timeline …).
    `keep` is empty, `forever`, or the date until which retention must leave it. `messages` is what was remarked.
    """

    id: str
    server: str
    kind: str
    state: State
    started: datetime
    server_version: str
    client_version: str
    parent: str = ""
    finished: datetime | None = None
    size: int = 0
    raw_size: int = 0
    sha256: str = ""
    contents: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    messages: str = ""
    error: str = ""
    keep: str = ""
    verifications: tuple[Verification, ...] = ()
    copies: tuple[Copy, ...] = ()

    @property
    def folder(self) -> str:
        """Where its objects lie in a repository."""
        return f"{self.server}/{self.id}"

    @property
    def usable(self) -> bool:
        """Whether it may be restored."""
        return self.state in (State.COMPLETE, State.VERIFIED)

    @property
    def major(self) -> int:
        """The PostgreSQL major version it restores into."""
        return int(self.server_version.split(".")[0])

    @property
    def rows(self) -> int:
        """Rows of all its tables."""
        databases = self.contents.get("databases", {}).values()
        return sum(rows for database in databases for rows, _ in database["tables"].values())


@dataclass(frozen=True, slots=True)
class Restored:
    """A backup restored to `cluster`; `commands` start it and connect to it; `process` when it was left
    running.
    """

    backup: Backup
    cluster: Cluster
    seconds: float
    commands: tuple[str, ...]
    process: Process | None


class Untested(AtalaiaError):
    """A restore test could not be carried out; the backup's state stays as it was."""


def logfmt(event: str, **fields: object) -> str:
    """`event=… key=value` for the log; values with spaces, quotes or `=` are quoted."""
    return " ".join(f"{key}={_value(str(value))}" for key, value in {"event": event, **fields}.items())


def _value(text: str) -> str:
    if text and not any(sign in text for sign in ' "=\n\r\t'):
        return text
    escaped = (
        text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
    )
    return f'"{escaped}"'
