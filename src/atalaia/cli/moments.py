"""Moments as commands show them, in UTC or in the time of this machine."""

from __future__ import annotations

from datetime import UTC, datetime


def show_local(ns: int, *, local: bool = False) -> str:
    """For people: with milliseconds; UTC, unless `local`."""
    moment = datetime.fromtimestamp(ns // 10**9, None if local else UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{ns // 10**6 % 1000:03d}"


def show_exact(ns: int, *, local: bool = False) -> str:
    """For programs: RFC 3339 with nanoseconds; in UTC, or with this machine's offset."""
    moment = datetime.fromtimestamp(ns // 10**9, UTC)
    if local:
        moment = moment.astimezone()
    offset = moment.isoformat()[19:]
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ns % 10**9:09d}{'Z' if offset == '+00:00' and not local else offset}"


def show_short(ns: int, span: int, *, local: bool = False) -> str:
    """For a chart over `span` ns: no more than tells its moments apart."""
    moment = datetime.fromtimestamp(ns // 10**9, None if local else UTC)
    day = f"{moment:%m-%d} " if span > 20 * 3600 * 10**9 else ""
    return f"{day}{moment:%H:%M:%S}"
