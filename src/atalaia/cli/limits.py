"""Limits as a person writes them, as the store and the queries take them."""

from __future__ import annotations

from collections.abc import Sequence

from atalaia.cli.given import settings_of
from atalaia.environment.settings import LimitsSettings
from atalaia.environment.units import parse_duration, parse_size
from atalaia.query.engine import QueryLimits
from atalaia.store.batch import Limits
from atalaia.store.options import Options
from atalaia.store.retention import Retention


def parse_limits(given: Sequence[str]) -> LimitsSettings:
    """The limits that NAME=VALUE texts give, defaults for the others. Raises InputError."""
    return settings_of(LimitsSettings, "--limit", given, "a known limit", "docs/limits.md")


def store_options(limits: LimitsSettings, retention: Retention) -> Options:
    """The store's part of the limits."""
    entries = Limits(
        line=parse_size(limits.line_size),
        labels=limits.labels,
        label_name=parse_size(limits.label_name_size),
        label_value=parse_size(limits.label_value_size),
        metadata=parse_size(limits.metadata_size),
        metadata_keys=limits.metadata_keys,
        ahead=parse_duration(limits.clock_ahead),
    )
    return Options(
        flush_bytes=parse_size(limits.memory_table),
        disk_floor=parse_size(limits.disk_floor),
        limits=entries,
        retention=retention,
    )


def query_limits(limits: LimitsSettings) -> QueryLimits:
    """The queries' part of the limits."""
    return QueryLimits(
        memory=parse_size(limits.query_memory),
        seconds=parse_duration(limits.query_time) / 1e9,
        running=limits.queries_running,
        waiting=limits.queries_waiting,
        patience=parse_duration(limits.query_wait) / 1e9,
        answer=parse_size(limits.answer_size),
    )
