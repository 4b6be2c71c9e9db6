"""PostgreSQL servers that Atalaia does not run, whose logs it collects: `[[collection.postgres]]` of atalaia.toml."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, field_validator

from atalaia.environment.alerting import Texts
from atalaia.environment.section import Section

Redaction = Literal["none", "literals"]
# The escapes of log_line_prefix in PostgreSQL's manual.
_PREFIX = re.compile(r"(?:[^%]|%(?:%|-?\d*[aubdhrLpPtmnisecvxqQl]))*")


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", text):
        raise ValueError(f"{text!r} is not a server's name: letters, digits, _, - and .")
    return text


def _zone(text: str) -> str:
    try:
        ZoneInfo(text)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{text!r} is no time zone such as America/Sao_Paulo") from None
    return text


def _prefix(text: str) -> str:
    if not _PREFIX.fullmatch(text):
        raise ValueError(f"{text!r} has an escape that log_line_prefix does not know")
    return text


class PostgresSource(Section):
    """One server: `logs` are globs. `timezone`: where its abbreviations are meant (default: PostgreSQL's own table)."""

    name: Annotated[str, AfterValidator(_name)]
    logs: Annotated[Texts, Field(min_length=1)]
    format: Literal["auto", "jsonlog", "csvlog", "stderr", "syslog", "pgbouncer"] = "auto"
    log_line_prefix: Annotated[str, AfterValidator(_prefix)] | None = None
    timezone: Annotated[str, AfterValidator(_zone)] | None = None
    redact: Redaction | None = None

    @field_validator("logs")
    @classmethod
    def _globs(cls, logs: tuple[str, ...]) -> tuple[str, ...]:
        if not all(logs):
            raise ValueError("an empty glob: name files, such as /var/log/postgresql/*.log")
        return logs
