"""What is known of an environment's backups at a moment, as `promise` judges it and metrics show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

from atalaia.backup.keeping.schedule import BACKUPS, Job, Run, interval
from atalaia.backup.model import Backup
from atalaia.environment.backing import BackupsSettings
from atalaia.environment.units import parse_duration


@dataclass(frozen=True, slots=True)
class Reason:
    """Something that is red: `kind` in one word, of a server or of none, what it is, and what to do."""

    kind: str
    server: str
    text: str
    remedy: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.server + ': ' if self.server else ''}{self.text}; {self.remedy}"


@dataclass(frozen=True, slots=True)
class Streaming:
    """How streaming of a server's WAL goes; `covered` is the last moment at which all of it was archived."""

    covered: datetime | None = None
    problem: str = ""
    remedy: str = ""
    interruptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Facts:
    """`service`: whether the backup service runs. `runs`: the last run of each job, by the job's name.

    `busy`: servers of which a backup is being made, tested, copied or restored.
    `checked` is what reading the repositories found wrong; `problem` why the catalogue cannot be read.
    """

    now: datetime
    settings: BackupsSettings
    servers: tuple[str, ...]
    backups: tuple[Backup, ...] = ()
    problem: Reason | None = None
    jobs: tuple[Job, ...] = ()
    runs: Mapping[str, Run] = field(default_factory=dict)
    service: bool = False
    busy: frozenset[str] = frozenset()
    copies: tuple[str, ...] = ()
    wal: Mapping[str, Streaming] = field(default_factory=dict)
    checked: tuple[Reason, ...] = ()
    zone: tzinfo = UTC

    @property
    def watched(self) -> bool:
        """Whether backups are promised: by a schedule, by streaming, or in so many words."""
        return self.settings.service or self.promised is not None or self.settings.promise.wal is not None

    @property
    def promised(self) -> timedelta | None:
        """How old the newest verified backup of a server may be: as said, else two of the schedule's intervals."""
        if given := self.settings.promise.verified:
            return timedelta(microseconds=parse_duration(given) // 1000)
        crons = [getattr(self.settings.schedule, task) for task in BACKUPS]
        found = interval([cron for cron in crons if cron], self.now, self.zone)
        return 2 * found if found else None
