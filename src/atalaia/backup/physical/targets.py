"""Points in time: what recovery is told, and which targets a backup cannot reach."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from atalaia.backup.model import Backup, Target
from atalaia.environment.errors import InputError
from atalaia.postgres.cluster import Setting

_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")


def lsn(text: str) -> int:
    """An LSN such as 1/2A3B4C as a number. Raises InputError."""
    found = _LSN.fullmatch(text.strip())
    if not found:
        raise InputError(f"{text!r} is no LSN", "give one such as 1/2A3B4C")
    return (int(found[1], 16) << 32) | int(found[2], 16)


@dataclass(frozen=True, slots=True)
class Reach:
    """From where a backup can be recovered: the end of it."""

    lsn: str
    time: datetime

    def __str__(self) -> str:
        return f"{self.time:%Y-%m-%d %H:%M:%S.%f} UTC (LSN {self.lsn})"


def reach(backup: Backup) -> Reach:
    """The earliest moment that a physical backup can be recovered to."""
    return Reach(backup.details["stop_lsn"], datetime.fromisoformat(backup.details["stop_time"]))


def check(backup: Backup, target: Target) -> None:
    """Raise InputError for a target that lies before the end of the backup, and for one that is not one target."""
    earliest = reach(backup)
    given = [name for name in ("time", "lsn", "name") if getattr(target, name)]
    if len(given) > 1:
        raise InputError("more than one target is given: " + ", ".join(given), "give one of time, LSN and name")
    if target.time and target.time.tzinfo is None:
        raise InputError("the target's time has no time zone", "give one, such as 2026-11-23 10:00:00+00:00")
    early = (target.time and target.time < earliest.time) or (target.lsn and lsn(target.lsn) < lsn(earliest.lsn))
    if early:
        raise InputError(
            f"{target.lsn or target.time} lies before the end of {backup.id}, recoverable from {earliest}",
            "take an earlier backup, or a later target",
        )


def settings(target: Target | None) -> dict[str, Setting]:
    """Recovery's settings; None stops at the backup's own end. Those of the original were left out (`copied`)."""
    chosen: dict[str, Setting] = {
        "recovery_target_action": "promote",
        "recovery_target_inclusive": target.inclusive if target else True,
        "recovery_target_timeline": target.timeline if target else "current",
    }
    if target is None:
        chosen["recovery_target"] = "immediate"
    elif target.time:
        chosen["recovery_target_time"] = f"{target.time.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00"
    elif target.lsn:
        chosen["recovery_target_lsn"] = target.lsn
    elif target.name:
        chosen["recovery_target_name"] = target.name
    return chosen
