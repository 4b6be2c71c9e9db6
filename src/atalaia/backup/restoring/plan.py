"""Which backup a restore takes, and what it would do: sizes, room, expected duration, what is replaced."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from atalaia.backup import catalogue
from atalaia.backup.model import Backup, Selection, State, Target, Wanted
from atalaia.backup.site import Site
from atalaia.backup.sources import opened
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.units import show_size

# Text of rows becomes tables, indexes and WAL: what logical backups of several databases took, and some more.
_GROWTH = 1.5
_OF_DATABASE = re.compile(r"(?:base|PG_\d+_\d+)/(\d+)/")
_ALWAYS = ("template0", "template1", "postgres")  # a partial restore brings them back too


@dataclass(frozen=True, slots=True)
class Plan:
    """What a restore would do. `chain` is what is read, the full backup first; sizes are in bytes.

    `reads` is stored bytes, `needs` what will be written to the file system of `room`, which has `free`. `seconds` is
    expected of the restore itself, by the evidence that `evidence` names; None when there is none.
    """

    backup: Backup
    chain: tuple[Backup, ...]
    wanted: Wanted
    place: str
    room: Path
    reads: int
    needs: int
    free: int
    seconds: float | None
    evidence: str
    remarks: tuple[str, ...]


def choose(site: Site, identifier: str | None, server: str | None, wanted: Wanted) -> Backup:
    """The backup that is named, or the newest one of a server that serves: for a target, physical and before it.

    Raises InputError when there is none, saying which moments can be had.
    """
    known = catalogue.list_backups(site.catalogue)
    if identifier:
        backup = catalogue.get(site.catalogue, identifier)
        if server and backup.server != server:
            raise InputError(f"{identifier} is of {backup.server}, not of {server}", "leave --server out")
        _check(backup, wanted)
        return backup
    servers = sorted({backup.server for backup in known if backup.usable})
    if server is None:
        if len(servers) != 1:
            raise InputError(
                "it is not said what to restore",
                "name a backup (`atalaia backup list`), or a server with --server"
                + (f": {', '.join(servers)}" if servers else ""),
            )
        server = servers[0]
    usable = [backup for backup in known if backup.server == server and backup.usable]
    if not usable:
        raise InputError(
            f"there is no backup of {server} that can be restored",
            f"there are some of: {', '.join(servers)}" if servers else "`atalaia backup list` shows what there is",
        )
    if wanted.target:
        return _before(server, usable, wanted.target)
    if wanted.selection.everything:
        return usable[-1]
    held = [backup for backup in usable if not _lacks(backup, wanted)]
    if not held:
        raise InputError(
            f"no backup of {server} has {', '.join(wanted.selection.databases)}",
            f"the newest, {usable[-1].id}, has: {', '.join(databases(usable[-1]))}",
        )
    return held[-1]


def named(backup: Backup, wanted: Wanted) -> Wanted:
    """`wanted` with the backup's only database named, where schemas or tables were asked for without one."""
    selection = wanted.selection
    only = [name for name in databases(backup) if not name.startswith("template")]
    if selection.databases or not (selection.schemas or selection.tables) or len(only) != 1:
        return wanted
    return replace(wanted, selection=replace(selection, databases=(only[0],)))


def plan(site: Site, backup: Backup, wanted: Wanted, room: Path) -> Plan:
    """What restoring a backup to a place below `room` would do. Reads the catalogue, and an index for sizes of parts.

    Raises InputError; PlaceError, Damaged, WrongKey when the index cannot be read.
    """
    _check(backup, wanted)
    chain = chain_of(site, backup)
    part = _share(site, chain[0], wanted)
    needs = round(backup.raw_size * part * (1.0 if backup.kind == "physical" else _GROWTH))
    if len(chain) > 1:  # they lie side by side while they are combined
        needs = round(sum(one.raw_size for one in chain) * part) + round(chain[0].raw_size * part)
    there = room
    while not there.exists():
        there = there.parent
    seconds, evidence = _evidence(site, backup, part)
    remarks = []
    if backup.state is not State.VERIFIED:
        remarks.append(f"{backup.id} was never proven to restore")
    if wanted.target is None and backup.finished:
        at = backup.details.get("stop_time") if backup.kind == "physical" else backup.started.isoformat()
        remarks.append(f"what was written after {_utc(at or backup.finished.isoformat())} is not in it")
    return Plan(
        backup,
        chain,
        wanted,
        site.repository.address,
        room,
        round(sum(one.size for one in chain) * (1.0 if backup.kind == "plain" else part)),
        needs,
        shutil.disk_usage(there).free,
        seconds,
        evidence,
        tuple(remarks),
    )


def check_room(planned: Plan, used: int = 0) -> None:
    """Raise AtalaiaError when the disk has no room for it; `used` bytes are there already."""
    needs = planned.needs - used
    if needs > planned.free:
        raise AtalaiaError(
            f"{planned.backup.id} needs about {show_size(needs)} in {planned.room}, where {show_size(planned.free)} "
            "are free",
            "nothing was changed; make room there, or give a directory on another disk with --to",
        )


def chain_of(site: Site, backup: Backup) -> tuple[Backup, ...]:
    """The backups that one builds on, the full one first, and itself. Raises InputError when one is missing."""
    known = {one.id: one for one in catalogue.list_backups(site.catalogue)}
    chain = [backup]
    while parent := chain[0].parent:
        if parent not in known or not known[parent].usable:
            raise InputError(
                f"{backup.id} builds on {parent}, which is {known[parent].state.value if parent in known else 'gone'}",
                "restore an earlier backup",
            )
        chain.insert(0, known[parent])
    return tuple(chain)


def databases(backup: Backup) -> list[str]:
    """Names of the databases in a backup, as far as its evidence tells."""
    hidden = ("template0", "template1")
    return sorted(name for name in backup.contents.get("databases", {}) if name not in hidden)


def _check(backup: Backup, wanted: Wanted) -> None:
    if not backup.usable:
        raise InputError(
            f"{backup.id} is {backup.state.value}{': ' + backup.error if backup.error else ''}",
            "restore another; `atalaia backup list` shows them (docs/backup.md says how to read a file by hand)",
        )
    if wanted.target and backup.kind != "physical":
        raise InputError(
            f"{backup.id} is a {backup.kind} backup: it restores to the moment it was made",
            "other moments need a physical backup and archived WAL: `atalaia backup now --kind physical`",
        )
    if missing := _lacks(backup, wanted):
        raise InputError(f"{backup.id} has no database {missing!r}", f"it has: {', '.join(databases(backup))}")


def _lacks(backup: Backup, wanted: Wanted) -> str:
    """The first database of the selection that a backup has not; empty when nothing is missing or known."""
    known = databases(backup)
    # One that was made after the backup may be in the WAL.
    if not known or wanted.target:
        return ""
    return next((name for name in wanted.selection.databases if name not in known), "")


def _before(server: str, usable: Sequence[Backup], target: Target) -> Backup:
    physical = [backup for backup in usable if backup.kind == "physical"]
    if not physical:
        raise InputError(
            f"no physical backup of {server} can be restored, and only those go to any moment",
            "make one: `atalaia backup now --kind physical`, and let WAL be archived: `stream = true` in [backups.wal]",
        )
    fitting = [
        backup
        for backup in physical
        if (not target.time or datetime.fromisoformat(str(backup.details["stop_time"])) <= target.time)
        and (not target.lsn or _lsn(str(backup.details["stop_lsn"])) <= _lsn(target.lsn))
    ]
    if not fitting:
        first = physical[0]
        raise InputError(
            f"the first physical backup of {server} that there is ended after that: {first.id}, at "
            f"{_utc(str(first.details['stop_time']))}, LSN {first.details['stop_lsn']}",
            "give a later target; a logical backup may be older: `atalaia backup list`",
        )
    return fitting[-1]


def _lsn(text: str) -> int:
    high, _, low = text.partition("/")
    return int(high, 16) << 32 | int(low, 16)


def _share(site: Site, backup: Backup, wanted: Wanted) -> float:
    """Which part of a backup's bytes a selection is: by its files (physical), by its tables' rows (logical)."""
    names = wanted.selection.databases
    if not names or backup.kind == "plain":
        return 1.0
    databases = backup.contents.get("databases", {})
    if backup.kind == "physical":
        left = {str(one.get("oid")) for name, one in databases.items() if name not in (*names, *_ALWAYS)}
        sizes = list(_files(site, backup))
        part = sum(size for name, size in sizes if (m := _OF_DATABASE.match(name)) is None or m[1] not in left)
        whole = sum(size for _, size in sizes)
    else:
        found = {
            (name, table): int(counts[1]) for name, one in databases.items() for table, counts in one["tables"].items()
        }
        whole = sum(found.values())
        part = sum(size for (name, table), size in found.items() if name in names and _taken(table, wanted.selection))
    return min(max(part / whole, 0.001), 1.0) if whole else 1.0


def _files(site: Site, backup: Backup) -> Iterator[tuple[str, int]]:
    """Names and sizes of the files of a physical backup. Raises PlaceError, Damaged, WrongKey."""
    for member in opened(site, backup, lambda _: None).members.values():
        yield from zip(member.facts.get("names", ()), member.facts.get("sizes", ()), strict=True)


def _taken(table: str, selection: Selection) -> bool:
    if not (selection.schemas or selection.tables):
        return True
    return table in selection.tables or any(table.startswith(f"{schema}.") for schema in selection.schemas)


def _evidence(site: Site, backup: Backup, part: float) -> tuple[float | None, str]:
    """How long its last restore took, or that of another of its kind and server, by size."""
    for one in (backup, *reversed(catalogue.list_backups(site.catalogue))):
        proof = next((v for v in reversed(one.verifications) if v.passed), None)
        if proof and (one.server, one.kind) == (backup.server, backup.kind):
            ratio = backup.raw_size / one.raw_size if one.raw_size else 1.0
            return proof.seconds * ratio * part, f"{one.id} took {proof.seconds:.1f} s on {proof.at:%Y-%m-%d}"
    return None, ""


def _utc(text: str) -> str:
    return f"{datetime.fromisoformat(text).astimezone(UTC):%Y-%m-%d %H:%M:%S}Z"
