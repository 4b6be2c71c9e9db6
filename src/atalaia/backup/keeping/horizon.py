"""Which archived WAL is still needed: a pure function of the physical backups and their fates."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from atalaia.backup.keeping.retention import Fate
from atalaia.backup.model import Backup, State
from atalaia.environment.backing import RetentionSettings
from atalaia.environment.units import parse_duration


@dataclass(frozen=True, slots=True)
class Horizon:
    """WAL of a system (its identifier) before `lsn` (such as `0/2000028`) may go; all of it when `lsn` is None.

    `backup` is the oldest that is rolled forward from there, empty when there is none.
    """

    system: str
    lsn: str | None
    backup: str = ""


def horizons(fates: Iterable[Fate], rules: RetentionSettings, now: datetime) -> list[Horizon]:
    """Where the WAL of one server may begin, a system each; without one, all of its WAL stays.

    Without `wal` that is the beginning of the oldest physical backup that stays. With it, that of the newest verified
    one which had ended before the window began; older ones restore to their own end, with the WAL that they hold.
    A system goes as a whole with its last backup, when a backup of a later one stays: the server was made anew.
    """
    if not (rules.any or rules.wal):
        return []
    bases = [fate for fate in fates if fate.backup.kind == "physical" and fate.backup.details.get("start_lsn")]
    staying: dict[str, list[Backup]] = {}
    for fate in bases:
        if fate.stays:
            staying.setdefault(system_of(fate.backup), []).append(fate.backup)
    found = []
    for system, own in sorted(staying.items()):
        usable = sorted((backup for backup in own if backup.usable), key=_ended)
        if usable:
            first = min(_reached(usable, rules, now), key=lambda backup: position(backup.details["start_lsn"]))
            found.append(Horizon(system, first.details["start_lsn"], first.id))
    latest = max((b.started for own in staying.values() for b in own if b.usable), default=None)
    for system in sorted({system_of(fate.backup) for fate in bases} - staying.keys()):
        last = max(fate.backup.started for fate in bases if system_of(fate.backup) == system)
        if latest is not None and latest > last:
            found.append(Horizon(system, None))
    return found


def system_of(backup: Backup) -> str:
    """The identifier of the system that a physical backup is of."""
    return str(backup.details.get("system_identifier", ""))


def position(lsn: str) -> int:
    """`X/Y` as a number of bytes."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def _reached(bases: list[Backup], rules: RetentionSettings, now: datetime) -> list[Backup]:
    """The newest verified one from before the window, and all after it; all when there is none."""
    if rules.wal:
        begin = now - timedelta(microseconds=parse_duration(rules.wal) // 1000)
        before = [n for n, b in enumerate(bases) if b.state is State.VERIFIED and _ended(b) <= begin]
        return bases[before[-1] :] if before else bases
    return bases


def _ended(backup: Backup) -> datetime:
    return backup.finished or backup.started
