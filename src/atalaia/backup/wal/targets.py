"""Where recovery is to stop, as a user says it, checked before anything is done."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from atalaia.backup.model import Target
from atalaia.backup.wal import segment
from atalaia.environment.errors import InputError

_ZONED = re.compile(r"(?P<moment>\S+(?: +[0-9:.]+)?) +(?P<zone>[A-Za-z][A-Za-z0-9_+\-/]*)")
_NAME = 63  # bytes; MAXFNAMELEN - 1 of a restore point's name


def moment(text: str, now: datetime | None = None) -> datetime:
    """A time with its zone: `2026-11-23 14:05:07.5-03:00`, `…Z`, or `… America/Sao_Paulo`; in UTC.

    Raises InputError for one without a zone, one that a change of clocks makes ambiguous or skips, and for the future.
    """
    example = "such as 2026-11-23T14:05:07Z, 2026-11-23T14:05:07-03:00 or '2026-11-23 14:05:07 America/Sao_Paulo'"
    zone = None
    plain = text.strip()
    if match := _ZONED.fullmatch(plain):
        plain = match["moment"]
        try:
            zone = UTC if match["zone"].upper() in ("UTC", "GMT", "Z") else ZoneInfo(match["zone"])
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise InputError(f"{match['zone']!r} is no time zone that is known here", f"give it {example}") from error
    try:
        found = datetime.fromisoformat(plain)
    except ValueError as error:
        raise InputError(f"{text!r} is no time", f"give it {example}") from error
    if found.tzinfo is None:
        if zone is None:
            raise InputError(f"{text!r} has no time zone, so it could be many moments", f"give it {example}")
        found = _in_zone(found, zone, text)
    elif zone is not None:
        raise InputError(f"{text!r} has two time zones", f"give it {example}")
    if found > (now or datetime.now(UTC)):
        raise InputError(f"{text!r} is in the future", "give a moment that has been")
    return found.astimezone(UTC)


def _in_zone(naive: datetime, zone: Any, text: str) -> datetime:
    first, second = naive.replace(tzinfo=zone, fold=0), naive.replace(tzinfo=zone, fold=1)
    if first.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != naive:
        raise InputError(f"{text!r} never was: clocks were put forward over it", "give it with an offset, such as Z")
    if first.utcoffset() != second.utcoffset():
        raise InputError(
            f"{text!r} was twice, for clocks were put back",
            f"give its offset: {first.isoformat()} or {second.isoformat()}",
        )
    return first


def target(
    *,
    time: str | None = None,
    lsn: str | None = None,
    name: str | None = None,
    exclusive: bool = False,
    timeline: str = "latest",
) -> Target:
    """What options say; nothing means the end of WAL. Raises InputError for more than one, and for what is none."""
    given = [value for value in (time, lsn, name) if value is not None]
    if len(given) > 1:
        raise InputError("more than one target is given", "give a time, an LSN or a restore point's name")
    if exclusive and (name is not None or not given):
        raise InputError("only a time or an LSN can be stopped just before", "leave --exclusive out")
    if timeline not in ("latest", "current") and not (timeline.isdecimal() and int(timeline) > 0):
        raise InputError(f"{timeline!r} is no timeline", "give `latest`, `current` or its number")
    if name is not None and (not name or len(name.encode()) > _NAME or "\0" in name):
        raise InputError(f"{name!r} is no restore point's name", f"it has 1 to {_NAME} bytes")
    return Target(
        time=moment(time) if time is not None else None,
        lsn=segment.show(segment.lsn(lsn)) if lsn is not None else "",
        name=name or "",
        inclusive=not exclusive,
        timeline=timeline,
    )


def describe(wanted: Target) -> str:
    """A target in words."""
    how = "" if wanted.inclusive else "just before "
    if wanted.time:
        return f"{how}{wanted.time.astimezone(UTC).isoformat()}"
    if wanted.lsn:
        return f"{how}the LSN {wanted.lsn}"
    return f"the restore point {wanted.name!r}" if wanted.name else "the end of the archived WAL"
