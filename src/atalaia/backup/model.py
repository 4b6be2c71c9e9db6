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
class Backup:
    """One row of the catalogue. Times are UTC, `size` and `raw_size` bytes of the file and of the text in it.

    `contents` is `Contents.summary()`, empty until the dump is complete; `messages` what pg_dumpall and we
    remarked.
    """

    id: str
    server: str
    kind: str
    state: State
    file: str
    started: datetime
    finished: datetime | None
    server_version: str
    client_version: str
    size: int
    raw_size: int
    sha256: str
    contents: dict[str, Any]
    settings: dict[str, str]
    messages: str
    error: str
    verifications: tuple[Verification, ...] = field(default=())

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
