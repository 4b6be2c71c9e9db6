"""Which archived WAL is still needed: a pure function of the physical backups that stay."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from atalaia.backup.model import Backup, State
from atalaia.environment.backing import RetentionSettings
from atalaia.environment.units import parse_duration


@dataclass(frozen=True, slots=True)
class Horizon:
    """WAL before `lsn` (such as `0/2000028`) may go: `backup` is the oldest that is rolled forward from."""

    lsn: str
    backup: str


def horizon(staying: Iterable[Backup], rules: RetentionSettings, now: datetime) -> Horizon | None:
    """Where the WAL of one server may begin; None when all of it stays.

    Without `wal` that is the beginning of the oldest physical backup that stays. With it, that of the newest verified
    one which had ended before the window began; older ones restore to their own end, with the WAL that they hold.
    """
    bases = [b for b in staying if b.kind == "physical" and b.usable and b.details.get("start_lsn")]
    if not bases or not (rules.any or rules.wal):
        return None
    needed = []
    # A server that was made anew begins at the first LSN again: each is judged by itself, the lowest counts for all.
    for system in {str(b.details.get("system_identifier", "")) for b in bases}:
        own = sorted((b for b in bases if str(b.details.get("system_identifier", "")) == system), key=_ended)
        needed.append(min(_reached(own, rules, now), key=lambda backup: position(backup.details["start_lsn"])))
    first = min(needed, key=lambda backup: position(backup.details["start_lsn"]))
    return Horizon(first.details["start_lsn"], first.id)


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
