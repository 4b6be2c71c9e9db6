"""A running server -> the members of a physical backup, by BASE_BACKUP."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import psycopg

from atalaia.backup.model import Backup, Progress, advance
from atalaia.backup.physical.tar import Follower
from atalaia.backup.physical.walsender import Refused, Row, Walsender, keeping_wal, walsender
from atalaia.backup.vault.writer import MemberWriter, Writer
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect

MANIFEST = "backup_manifest"
BASE = "base.tar"
_TOLD = 8 << 20  # bytes between two words on how far it is
_SOURCE = """
SELECT pg_is_in_recovery(), current_setting('wal_level'), current_setting('summarize_wal', true),
  current_setting('data_checksums'), (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_segment_size'),
  (SELECT system_identifier::text FROM pg_control_system()), (SELECT timeline_id FROM pg_control_checkpoint()),
  clock_timestamp()
"""


@dataclass(frozen=True, slots=True)
class Source:
    """What a server says of itself. `summarizes` tells that incremental backups are possible."""

    summarizes: bool
    checksums: bool
    segment_size: int
    system_identifier: str
    timeline: int
    now: datetime


@dataclass(frozen=True, slots=True)
class Taken:
    """What a base backup was: see Backup.details for `details`; `said` are warnings."""

    details: dict[str, Any]
    said: list[str]


def look(cluster: Cluster) -> Source:
    """Look at the server. Raises InputError when no physical backup of it is possible, AtalaiaError."""
    try:
        with connect(cluster, autocommit=True) as connection:
            row = connection.execute(_SOURCE).fetchone()
    except psycopg.Error as error:
        words = str(error).strip().splitlines()[-1]
        raise AtalaiaError(f"{cluster.name} cannot be backed up: {words}", f"see {cluster.log}") from error
    assert row
    standby, level, summarize, checksums, segment, system, timeline, now = row
    if standby:
        raise InputError(f"{cluster.name} is a standby", "back up its primary")
    if level == "minimal":
        raise InputError(
            f"{cluster.name} has `wal_level = minimal`, which allows no physical backup",
            "set `wal_level = replica` in the settings of the server and restart it, or make logical backups",
        )
    return Source(summarize == "on", checksums == "on", segment, system, timeline, now.astimezone(UTC))


def take(
    cluster: Cluster, source: Source, backup: Backup, writer: Writer, parent: bytes | None, progress: Progress
) -> Taken:
    """Write the server's files into `writer`; incremental with the `parent`'s manifest.

    Raises AtalaiaError with the server's own words.
    """
    with keeping_wal(cluster, f"atalaia_backup_{time.time_ns():x}") as problem, walsender(cluster) as sender:
        ((system, *_),) = sender.rows("IDENTIFY_SYSTEM")
        if system != source.system_identifier:
            raise AtalaiaError(f"{cluster.name} was replaced by another server", "try again")
        if parent is not None:
            sender.upload("UPLOAD_MANIFEST", parent)
        details = _stream(sender, writer, _command(backup, incremental=parent is not None), progress)
        said = sender.said + ([problem] if problem else [])
    details |= {
        "system_identifier": source.system_identifier,
        "checksums": source.checksums,
        "wal_segment_size": source.segment_size,
        "start_time": source.now.isoformat(),
    }
    return Taken(details, said)


def _command(backup: Backup, *, incremental: bool) -> str:
    label = backup.id.replace("'", "''")
    options = [
        f"LABEL 'atalaia {label}'",
        "PROGRESS",
        "CHECKPOINT 'fast'",
        # It holds its own WAL: whether the server's own archiving works is of no concern to it.
        "WAL",
        "WAIT false",
        "TABLESPACE_MAP",
        "MANIFEST 'yes'",
        "MANIFEST_CHECKSUMS 'CRC32C'",
        *(["INCREMENTAL"] if incremental else []),
    ]
    return f"BASE_BACKUP ({', '.join(options)})"


def _stream(sender: Walsender, writer: Writer, command: str, progress: Progress) -> dict[str, Any]:
    """Send the command and write what comes; start, stop and what is in the members."""
    sender.send(command)
    (start,) = sender.result()
    places = sender.result()
    for _, location, _ in places:
        if location and not location.startswith("/"):
            raise InputError(
                f"the tablespace {location} lies inside the data directory, which is not supported",
                "move its tables elsewhere (ALTER TABLE … SET TABLESPACE) and drop it, or make logical backups",
            )
    stream = _Stream(writer, progress, sum(int(size or 0) for _, _, size in places) * 1024)
    for message in sender.messages():
        stream.take(message)
    stream.end()
    (stop,) = sender.result()
    # The command itself may still fail: the server tells damaged pages at its end.
    while sender.more():
        pass
    if start[1] != stop[1]:
        raise Refused("the server changed its time line during the backup", "try again", "")
    return {
        "start_lsn": start[0],
        "stop_lsn": stop[0],
        "timeline": int(stop[1]),
        "size": stream.size,
        "files": stream.files,
        "tablespaces": [_tablespace(row) for row in places if row[0]],
    }


def _tablespace(row: Row) -> dict[str, Any]:
    return {"oid": int(row[0]), "location": row[1], "member": f"{row[0]}.tar"}


class _Stream:
    """Messages of BASE_BACKUP -> members."""

    def __init__(self, writer: Writer, progress: Progress, total: int) -> None:
        self.size = 0
        self.files = 0
        self._writer, self._progress, self._total = writer, progress, total
        self._member: MemberWriter | None = None
        self._follower: Follower | None = None
        self._told = 0

    def take(self, message: memoryview) -> None:
        """One message: `n` begins an archive, `m` the manifest, `d` is data; `p`, how far the server is, is known."""
        kind = message[0]
        if kind == 100:  # d, first because nearly all are
            data = message[1:]
            if self._follower:
                self._follow(data)
            assert self._member
            self._member.write(data)
            self.size += len(data)
            if self.size >= self._told + _TOLD:
                self._told = self.size
                advance(self._progress, "backing up", self.size, max(self.size, self._total))
        elif kind == 110:
            self.end()
            name = bytes(message[1:]).split(b"\0", 1)[0].decode()
            self._member, self._follower = self._writer.member(name), Follower()
        elif kind == 109:
            self.end()
            self._member = self._writer.member(MANIFEST)

    def end(self) -> None:
        """The member that is open has ended."""
        if self._member and self._follower:
            try:
                layout = self._follower.layout()
            except ValueError as error:
                raise self._wrong(error) from error
            self._member.facts |= layout.facts()
            self.files += len(layout.files)
        if self._member:
            self._member.close()
        self._member = self._follower = None

    def _follow(self, data: memoryview) -> None:
        assert self._follower
        try:
            self._follower.feed(data)
        except ValueError as error:
            raise self._wrong(error) from error

    def _wrong(self, error: ValueError) -> AtalaiaError:
        name = self._member.name if self._member else ""
        return AtalaiaError(f"the server sent no tar stream as {name}: {error}", "tell Atalaia's authors of it")
