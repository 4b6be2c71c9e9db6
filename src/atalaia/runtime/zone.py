"""The machine's time zone, with its changes of the clock in spring and autumn."""

from __future__ import annotations

import os
from datetime import UTC, tzinfo
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_LOCALTIME = Path("/etc/localtime")


def local_zone() -> tzinfo:
    """What TZ names, else /etc/localtime (tzset(3)); UTC where there is neither."""
    name = os.environ.get("TZ", "").lstrip(":")
    if name:
        try:
            return _of(Path(name)) if name.startswith("/") else ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            return UTC
    try:
        return _of(_LOCALTIME)
    except (ValueError, OSError):
        return UTC


def _of(path: Path) -> ZoneInfo:
    with path.open("rb") as file:
        return ZoneInfo.from_file(file, key=path.resolve().as_posix().partition("/zoneinfo/")[2] or None)
