"""Which backups stay and which go: a pure function of the catalogue, the settings and the time.

Rules add up: what any keeps, stays. Without a rule everything stays. Each server and kind is judged by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo

from atalaia.backup.model import Backup, State
from atalaia.environment.backing import RetentionSettings
from atalaia.environment.units import parse_duration

FOREVER = "forever"
FAILED_FOR = timedelta(days=14)
"""How long a failed backup stays for people to look at; then it goes once a newer one is verified."""
REMOVED = "being removed: `atalaia backup prune` finishes it"
"""The error of a backup whose removal has begun: it is none any more, whatever is left of it."""

_PERIODS: dict[str, Callable[[datetime], str]] = {
    "daily": lambda at: f"{at:%Y-%m-%d}",
    "weekly": lambda at: f"{at:%G-W%V}",
    "monthly": lambda at: f"{at:%Y-%m}",
    "yearly": lambda at: f"{at:%Y}",
}


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a backup: it stays when `why` names a reason, and goes when there is none."""

    backup: Backup
    why: tuple[str, ...]

    @property
    def stays(self) -> bool:
        """Whether it is kept."""
        return bool(self.why)


def decide(backups: Iterable[Backup], rules: RetentionSettings, now: datetime, zone: tzinfo = UTC) -> list[Fate]:
    """Every backup's fate, oldest first. Days, weeks, months and years are those of `zone`."""
    ordered = sorted(backups, key=_age_order)
    why: dict[str, list[str]] = {backup.id: [] for backup in ordered}
    groups: dict[tuple[str, str], list[Backup]] = {}
    for backup in ordered:
        if half_gone(backup):
            continue
        groups.setdefault((backup.server, backup.kind), []).append(backup)
    for group in groups.values():
        for identifier, reason in _group(group, rules, now, zone):
            why[identifier].append(reason)
    _chains(ordered, why)
    return [Fate(backup, tuple(why[backup.id])) for backup in ordered]


def half_gone(backup: Backup) -> bool:
    """Whether the removal of a backup has begun."""
    return backup.state is State.FAILED and backup.error == REMOVED


def kept_until(keep: str, now: datetime, zone: tzinfo = UTC) -> bool:
    """Whether a keep mark holds: `forever`, or through the end of its date (ISO 8601) in `zone`."""
    return keep == FOREVER or (bool(keep) and date.fromisoformat(keep) >= now.astimezone(zone).date())


def _group(group: Sequence[Backup], rules: RetentionSettings, now: datetime, zone: tzinfo) -> list[tuple[str, str]]:
    """Id and reason for all that is kept of one server and kind, given oldest first."""
    found = []
    # A clock that was ahead once must not make today's backups the old ones.
    past = [backup for backup in group if backup.started <= now]
    good = [backup for backup in past if backup.usable]
    verified = [backup for backup in good if backup.state is State.VERIFIED]
    for backup in group:
        if kept_until(backup.keep, now, zone):
            found.append((backup.id, "marked to be kept" + ("" if backup.keep == FOREVER else f" until {backup.keep}")))
        if backup.started > now:
            found.append((backup.id, "from the future: the clock was set back, or was wrong"))
        if backup.state is State.RUNNING:
            found.append((backup.id, "running"))
        if backup.state is State.FAILED and not _spent(backup, verified, now):
            found.append((backup.id, "failed: stays 14 days, and until a newer one is verified"))
        if not rules.any:
            found.append((backup.id, "no retention is configured"))
    if verified:
        found.append((verified[-1].id, "the last verified one"))
    if good:
        found.append((good[-1].id, "the newest one"))
    if rules.last:
        found += [(backup.id, f"last {rules.last}") for backup in good[-rules.last :]]
    if rules.age:
        least = now - timedelta(microseconds=parse_duration(rules.age) // 1000)
        found += [(backup.id, f"younger than {rules.age}") for backup in good if backup.started > least]
    for rule, name_of in _PERIODS.items():
        chosen: dict[str, Backup] = {}
        for backup in good:
            name = name_of(backup.started.astimezone(zone))
            # The newest of a period that was verified, else the newest.
            if name not in chosen or backup.state is State.VERIFIED or chosen[name].state is not State.VERIFIED:
                chosen[name] = backup
        newest = sorted(chosen, reverse=True)[: getattr(rules, rule)]
        found += [(chosen[name].id, f"{rule} {name}") for name in newest]
    return found


def _spent(backup: Backup, verified: Sequence[Backup], now: datetime) -> bool:
    newer = any(_age_order(one) > _age_order(backup) for one in verified)
    return newer and now - (backup.finished or backup.started) > FAILED_FOR


def _chains(backups: Sequence[Backup], why: dict[str, list[str]]) -> None:
    """What a kept backup builds on stays, too."""
    parents = {backup.id: backup.parent for backup in backups}
    for backup in backups:
        if not why[backup.id]:
            continue
        child, parent = backup.id, backup.parent
        seen = {child}
        while parent in parents and parent not in seen:
            seen.add(parent)
            if (reason := f"{child} builds on it") not in why[parent]:
                why[parent].append(reason)
            child, parent = parent, parents[parent]


def _age_order(backup: Backup) -> tuple[datetime, str]:
    return backup.started, backup.id
