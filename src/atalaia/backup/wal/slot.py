"""The server's side of streaming: what it is, its slot, and the bound on the WAL that it keeps for us."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import psycopg

from atalaia.backup.model import Progress, logfmt
from atalaia.backup.wal import segment
from atalaia.environment.errors import AtalaiaError
from atalaia.environment.units import parse_size, show_size
from atalaia.postgres.cluster import Cluster

NAME = "atalaia"
_PAGE = 8192
_BOUND = "max_slot_wal_keep_size"
_log = logging.getLogger("atalaia.backup")


@dataclass(frozen=True, slots=True)
class Source:
    """A running server: `position` is what it has flushed; `names` are the segments in its pg_wal."""

    system: str
    timeline: int
    position: int
    segment_size: int
    names: frozenset[str]


@dataclass(frozen=True, slots=True)
class Slot:
    """The slot: `status` reserved, extended, unreserved, lost; `safe` bytes until it is lost, None without a bound."""

    status: str
    active: bool
    restart: int | None
    safe: int | None


def source(connection: psycopg.Connection[Any]) -> Source:
    """What the server is. Raises psycopg.Error; AtalaiaError for a standby, or one that writes too little WAL."""
    recovering, level, senders = _one(
        connection,
        "SELECT pg_is_in_recovery(), current_setting('wal_level'), current_setting('max_wal_senders')::int",
    )
    if recovering:
        raise AtalaiaError("it is a standby, or still recovering", "WAL is streamed once it takes writes")
    if level == "minimal" or not senders:
        raise AtalaiaError(
            f"its settings do not allow streaming: wal_level = {level}, max_wal_senders = {senders}",
            'set wal_level = "replica" and max_wal_senders = 10 in atalaia.toml, and start it anew',
        )
    system, name, position, size = _one(
        connection,
        "SELECT system_identifier::text, pg_walfile_name(pg_current_wal_insert_lsn()), "
        "pg_current_wal_flush_lsn()::text, (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size') "
        "FROM pg_control_system()",
    )
    names = connection.execute("SELECT name FROM pg_ls_waldir()").fetchall()
    there = frozenset(name for (name,) in names)
    return Source(system, int(name[:8], 16), segment.lsn(position), size, there)


def look(connection: psycopg.Connection[Any]) -> Slot | None:
    """The slot as it is; None when there is none. Raises psycopg.Error."""
    row = connection.execute(
        "SELECT coalesce(wal_status, 'lost'), active, restart_lsn::text, safe_wal_size "
        "FROM pg_replication_slots WHERE slot_name = %s",
        (NAME,),
    ).fetchone()
    if row is None:
        return None
    return Slot(row[0], row[1], segment.lsn(row[2]) if row[2] else None, row[3])


@dataclass(frozen=True, slots=True)
class Positions:
    """What the server has written (`inserted`), what of it is on its disk, and what our receiver confirmed to have."""

    inserted: int
    flushed: int
    received: int | None


def positions(connection: psycopg.Connection[Any]) -> Positions:
    """How far the server and its receiver are. Raises psycopg.Error."""
    inserted, flushed, received = _one(
        connection,
        "SELECT pg_current_wal_insert_lsn()::text, pg_current_wal_flush_lsn()::text, "
        "(SELECT write_lsn::text FROM pg_stat_replication r JOIN "
        f"pg_replication_slots s ON s.active_pid = r.pid AND s.slot_name = '{NAME}')",
    )
    # Where the next record goes, behind the header of a page that is not begun yet (24 bytes, 40 in a segment's first).
    start = segment.lsn(inserted)
    start -= start % _PAGE if start % _PAGE in (24, 40) else 0
    return Positions(start, segment.lsn(flushed), segment.lsn(received) if received else None)


def prepare(cluster: Cluster, connection: psycopg.Connection[Any], keep: str, tell: Progress) -> bool:
    """Bound what the server keeps, and see that the slot is there and good; True when it had to be made anew.

    Raises psycopg.Error.
    """
    _bound(cluster, connection, keep, tell)
    found = look(connection)
    if found and found.status == "lost":
        tell(f"{cluster.name}: the slot {NAME} was lost: the receiver was away for more than {keep} of WAL")
        _log.error(logfmt("wal_slot_lost", server=cluster.name, keep=keep))
        connection.execute("SELECT pg_drop_replication_slot(%s)", (NAME,))
        found = None
    if found:
        return False
    connection.execute("SELECT pg_create_physical_replication_slot(%s, true)", (NAME,))
    tell(f"{cluster.name}: made the slot {NAME}, for which it keeps at most {keep} of WAL")
    return True


def drop(connection: psycopg.Connection[Any]) -> bool:
    """Remove the slot and the bound; False when there was none. Raises psycopg.Error when it is in use."""
    connection.execute(f"ALTER SYSTEM RESET {_BOUND}")
    connection.execute("SELECT pg_reload_conf()")
    if look(connection) is None:
        return False
    connection.execute("SELECT pg_drop_replication_slot(%s)", (NAME,))
    return True


def _bound(cluster: Cluster, connection: psycopg.Connection[Any], keep: str, tell: Progress) -> None:
    if _BOUND in cluster.settings:
        return  # the user's own word
    wanted = max(1, -(-parse_size(keep) // (1 << 20)))
    (now,) = _one(connection, f"SELECT setting::int FROM pg_settings WHERE name = '{_BOUND}'")
    if now == wanted:
        return
    # Not at the server's next start: the bound has to be there before the slot is.
    connection.execute(f"ALTER SYSTEM SET {_BOUND} = '{wanted}MB'")
    connection.execute("SELECT pg_reload_conf()")
    tell(f"{cluster.name}: {_BOUND} is now {show_size(wanted << 20)}")


def _one(connection: psycopg.Connection[Any], query: str) -> tuple[Any, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return tuple(row)
