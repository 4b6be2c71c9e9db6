"""`[backups]` of atalaia.toml: where backups are kept, how they are made, when, for how long, what is promised."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from atalaia.environment.section import DurationText, Section, SizeText, between
from atalaia.environment.units import parse_duration

KINDS = ("logical", "plain", "physical")
_REMOTE = re.compile(r"(s3|gs|az)://[^/\s]+(/\S*)?|https?://\S+")


def remote(place: str) -> bool:
    """Whether a repository is an object store, not a folder."""
    return "://" in place


def _place(text: str) -> str:
    if remote(text) and not _REMOTE.fullmatch(text):
        raise ValueError(f'{text!r} is neither a folder nor an address such as "s3://bucket/prefix", gs:// or az://')
    if not text.strip():
        raise ValueError("an empty name")
    return text


def _cron(text: str) -> str:
    from datetime import UTC, datetime

    from cronsim import CronSim, CronSimError

    try:
        CronSim(text, datetime(2026, 1, 1, tzinfo=UTC))
    except CronSimError as error:
        raise ValueError(f'{text!r} is not a cron expression such as "0 3 * * *": {error}') from error
    return text


PlaceText = Annotated[str, AfterValidator(_place)]
CronText = Annotated[str, AfterValidator(_cron)]
Truth = Annotated[bool, Field(strict=True)]
Name = Annotated[str, Field(min_length=1, max_length=200)]


class WalSettings(Section):
    """`[backups.wal]`: continuous archiving by streaming. `keep` bounds what a server keeps for a receiver away."""

    stream: Truth = False
    keep: SizeText = "4GiB"
    spool: SizeText = "4GiB"


class ScheduleSettings(Section):
    """`[backups.schedule]`: cron expressions in local time; `jitter` spreads the starts."""

    logical: CronText | None = None
    plain: CronText | None = None
    physical: CronText | None = None
    incremental: CronText | None = None
    verify: CronText | None = None
    prune: CronText | None = None
    jitter: Annotated[str, between(parse_duration, "0", "1d")] = "0"

    @property
    def any(self) -> bool:
        """Whether anything is scheduled."""
        return any(getattr(self, name) for name in type(self).model_fields if name != "jitter")


class RetentionSettings(Section):
    """`[backups.retention]`: what is kept, per server and kind; nothing is removed when nothing is said."""

    last: Annotated[int, Field(ge=1, le=10_000, strict=True)] | None = None
    age: DurationText | None = None
    daily: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 0
    weekly: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 0
    monthly: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 0
    yearly: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 0
    wal: DurationText | None = None

    @property
    def any(self) -> bool:
        """Whether anything is ever removed."""
        return bool(self.last or self.age or self.daily or self.weekly or self.monthly or self.yearly)


class PromiseSettings(Section):
    """`[backups.promise]`: how old the newest verified backup and WAL may be; `change` in percent, 0 for any."""

    verified: DurationText | None = None
    wal: DurationText | None = None
    change: Annotated[int, Field(ge=0, le=10_000, strict=True)] = 50


class CheckSettings(Section):
    """`[[backups.check]]`: SQL that a restored server must answer with one row whose first column is true."""

    sql: Annotated[str, Field(min_length=1)]
    database: Name = "postgres"
    servers: tuple[Name, ...] = ()
    name: Name | None = None


class BackupsSettings(Section):
    """`[backups]`: see docs/backup.md."""

    repository: PlaceText | None = None
    copies: tuple[PlaceText, ...] = ()
    options: dict[Name, str | int | bool] = Field(default_factory=dict)
    stores: dict[PlaceText, dict[Name, str | int | bool]] = Field(default_factory=dict)
    options_file: Path | None = None
    patience: DurationText = "3m"
    kind: Literal["logical", "plain", "physical"] = "logical"
    compression: Literal["zstd", "lz4", "none"] = "zstd"
    level: Annotated[int, Field(ge=1, le=19, strict=True)] = 1
    encryption: Truth = False
    key_file: Path | None = None
    jobs: Annotated[int, Field(ge=1, le=64, strict=True)] = 2
    passwords: Truth = True
    databases: tuple[Name, ...] = ()
    exclude_databases: tuple[Name, ...] = ()
    schemas: tuple[Name, ...] = ()
    exclude_schemas: tuple[Name, ...] = ()
    tables: tuple[Name, ...] = ()
    exclude_tables: tuple[Name, ...] = ()
    exclude_data: tuple[Name, ...] = ()
    port: Annotated[int, Field(ge=1, le=65535, strict=True)] | None = None
    wal: WalSettings = WalSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    retention: RetentionSettings = RetentionSettings()
    promise: PromiseSettings = PromiseSettings()
    check: tuple[CheckSettings, ...] = ()

    @property
    def service(self) -> bool:
        """Whether something is to be done without being asked: the supervisor keeps a service for it."""
        return self.schedule.any or self.wal.stream

    @model_validator(mode="after")
    def _places_once(self) -> Self:
        if self.repository in self.copies or len(set(self.copies)) != len(self.copies):
            raise ValueError("a repository is named twice")
        for address in self.stores:
            if address not in (self.repository, *self.copies):
                raise ValueError(f"options are given for {address}, which is neither `repository` nor in `copies`")
        return self


SECTIONS: dict[str, type[Section]] = {
    "wal": WalSettings,
    "schedule": ScheduleSettings,
    "retention": RetentionSettings,
    "promise": PromiseSettings,
    "check": CheckSettings,
}
"""The tables below `[backups]`."""

_CRON = 'give a cron expression in local time, such as "0 3 * * *", every night at three'
_NAMES = 'give a list of names, such as ["one", "two"]'
_DURATION = "give a duration such as 30d"
_COUNT = "give a number such as 7, without quotes"
REMEDIES = {
    "copies": 'give a list of folders or addresses, such as ["s3://bucket/prefix"]',
    "options": 'give a table of the store\'s settings, such as { region = "eu-central-1" }',
    "kind": 'give "logical", "physical" or "plain"',
    "compression": 'give "zstd", "lz4" or "none"',
    "level": "give a number from 1, the fastest, to 19",
    "encryption": "give true or false; `atalaia backup key new` makes the key",
    "passwords": "give true or false",
    "jobs": "give a number from 1 to 64",
    "port": "give a free port from 1 to 65535, or leave it out to take the next free one",
    "wal.stream": "give true or false",
    "wal.keep": "give a size such as 4GiB",
    "wal.spool": "give a size such as 4GiB",
    "schedule.jitter": "give a duration such as 10m",
    "retention.age": _DURATION,
    "retention.wal": "give a duration such as 7d",
    "promise.verified": "give a duration such as 25h",
    "promise.wal": "give a duration such as 10m",
    "promise.change": "give a number of percent such as 50, or 0 for any change",
    "check": "write [[backups.check]], and below it sql",
    **dict.fromkeys((f"schedule.{name}" for name in ScheduleSettings.model_fields if name != "jitter"), _CRON),
    **dict.fromkeys((f"retention.{name}" for name in ("last", "daily", "weekly", "monthly", "yearly")), _COUNT),
    **dict.fromkeys((f"{less}{of}" for less in ("", "exclude_") for of in ("databases", "schemas", "tables")), _NAMES),
    "exclude_data": _NAMES,
    **{name: f"write [backups.{name}] and its keys below" for name in ("wal", "schedule", "retention", "promise")},
}
"""What to do about a wrong value, by its key below `backups.`."""
