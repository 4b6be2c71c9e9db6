"""The catalogue: which segments, streams and sources exist. A segment exists once its row is committed."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.store.deletion import Deletion
from atalaia.store.held import Held
from atalaia.store.schema import FORMAT, TABLES
from atalaia.store.segment import Made, Segment
from atalaia.store.streams import Streams

STREAM_GAP = 1 << 20
"""Streams are numbered one by one; what keeps them by number cannot have numbers that are far beyond their count."""
_UNREACHABLE = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY)
_SOURCE_LIFE = 90 * 86_400  # seconds; a file that has not grown for so long will not be sent again
_LAST_STREAM = (
    "SELECT coalesce(max(id), 0) FROM (SELECT id FROM streams UNION SELECT value FROM store WHERE key = 'last_stream')"
)
_SEGMENT = (
    "name, level, rows, bytes, line_bytes, min_ts, max_ts, first_seq, last_seq, crc32, index_bytes, index_crc32, keys,"
    " purged, held"
)


class Unreachable(AtalaiaError):
    """The file cannot be read or written as things are; whether it is damaged is not known."""


class OtherFormat(AtalaiaError):
    """The store was written by another version of Atalaia; nothing is wrong with it."""


class Catalogue:
    """One open catalogue, safe to use from any thread."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        """Open or create; with `read_only` open what there is, also beside the process that has the store open.

        Raises AtalaiaError for a damaged file or one of another format.
        """
        self._path = path
        self._guard = threading.RLock()
        self._saved_stream = 0
        where = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
        self._db = sqlite3.connect(where, uri=True, isolation_level=None, check_same_thread=False)
        try:
            if not read_only:
                self._prepare()
            found = int(self._db.execute("SELECT value FROM store WHERE key = 'format'").fetchone()[0])
            if found == FORMAT:
                self._saved_stream = int(self._db.execute(_LAST_STREAM).fetchone()[0])
        except (sqlite3.DatabaseError, TypeError, ValueError) as error:
            self._db.close()
            # The low byte is the kind of error, the others say more of it.
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in _UNREACHABLE:
                remedy = "see that its disk has room and that you may write there"
                raise Unreachable(f"{path} cannot be opened now: {error}", remedy) from error
            raise AtalaiaError(
                f"{path} cannot be opened: {error}",
                "`atalaia store repair` makes it anew from what can be read",
            ) from error
        if found != FORMAT:
            self._db.close()
            raise OtherFormat(
                f"the store at {path.parent} has format {found}; this Atalaia knows format {FORMAT}",
                "use the Atalaia that wrote it, or move the directory away to begin a new store",
            )

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        # What is deleted leaves no trace in the file.
        self._db.execute("PRAGMA secure_delete = ON")
        if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'store'").fetchone():
            self._db.executescript(
                f"BEGIN;{TABLES}INSERT INTO store VALUES ('format', {FORMAT}), ('generation', 0), ('last_seq', 0),"
                " ('number', 0);COMMIT;"
            )
        # Before anything is believed: files that it does not name are removed.
        if problems := self.problems():
            raise sqlite3.DatabaseError(problems[0])

    def _value(self, key: str) -> int:
        with self._guard:
            return int(self._db.execute("SELECT value FROM store WHERE key = ?", (key,)).fetchone()[0])

    @property
    def generation(self) -> int:
        """The last generation of the memory table that is a segment (or was empty)."""
        return self._value("generation")

    @property
    def last_seq(self) -> int:
        """The highest seq in any segment so far, 0 for none."""
        return self._value("last_seq")

    @property
    def number(self) -> int:
        """The highest number that a segment ever had."""
        return self._value("number")

    def load_streams(self) -> Streams:
        """All streams that segments name; the next new one has a number that none ever had."""
        streams = Streams(self._saved_stream)
        for number, tenant, labels in self._db.execute("SELECT id, tenant, labels FROM streams ORDER BY id"):
            streams.restore(number, tenant, labels)
        return streams

    def sources(self) -> dict[str, int]:
        """The end of each source in segments."""
        return dict(self._db.execute("SELECT id, position FROM sources"))

    def segments(self) -> list[Made]:
        """All segments, oldest first."""
        with self._guard:
            rows = self._db.execute(f"SELECT {_SEGMENT} FROM segments ORDER BY min_ts, id").fetchall()
        return [_made(row) for row in rows]

    def add(self, made: Made | None, streams: Streams, sources: Mapping[str, int], generation: int) -> None:
        """Make a segment exist, with new streams and sources, and set the generation: one transaction."""
        now = int(time.time())
        with self._saving(streams):
            if made is not None:
                self._insert(made, now)
            # Never back: what was seen while the clock was behind would be forgotten once it is right again.
            (seen,) = self._db.execute("SELECT max(?, coalesce(max(seen), 0)) FROM sources", (now,)).fetchone()
            self._db.executemany(
                "INSERT INTO sources VALUES (?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET position = excluded.position, seen = excluded.seen",
                [(source, position, seen) for source, position in sources.items()],
            )
            self._db.execute("DELETE FROM sources WHERE seen < ?", (seen - _SOURCE_LIFE,))
            self._db.execute("UPDATE store SET value = ? WHERE key = 'generation'", (generation,))

    @contextlib.contextmanager
    def _saving(self, streams: Streams) -> Iterator[None]:
        """A transaction that also saves new streams."""
        with self._guard:
            fresh = streams.since(self._saved_stream)
            with self._transaction():
                self._db.executemany("INSERT INTO streams VALUES (?, ?, ?)", [(s.id, s.tenant, s.text) for s in fresh])
                yield
            if fresh:
                self._saved_stream = fresh[-1].id

    def replace(self, old: Iterable[str], new: Sequence[Made], removed: Mapping[int, int] | None = None) -> None:
        """Put segments in the place of others in one transaction; the others' files are the caller's to remove.

        `removed` counts the entries that were left out, by deletion.
        """
        names = list(old)
        marks = ", ".join("?" * len(names))
        with self._transaction():
            # A segment is as old as the entries in it, for whoever asks about growth.
            found = self._db.execute(f"SELECT min(created) FROM segments WHERE name IN ({marks})", names).fetchone()
            self._db.execute(f"DELETE FROM segments WHERE name IN ({marks})", names)
            for made in new:
                self._insert(made, found[0] if found[0] is not None else int(time.time()))
            self._db.executemany(
                "UPDATE deletions SET rows = rows + ? WHERE id = ?",
                [(rows, number) for number, rows in (removed or {}).items()],
            )

    def _insert(self, made: Made, created: int) -> None:
        s = made.segment
        values = (
            s.name, s.level, s.rows, s.size, s.line_bytes, s.min_ts, s.max_ts, s.first_seq, s.last_seq, s.crc32,
            s.index_size, s.index_crc32, orjson.dumps(s.keys).decode(), s.purged,
            made.held.encode() if made.held is not None else None, created,
        )  # fmt: skip
        self._db.execute(f"INSERT INTO segments ({_SEGMENT}, created) VALUES ({', '.join('?' * len(values))})", values)
        for key, value in (("last_seq", s.last_seq), ("number", s.number)):
            self._db.execute("UPDATE store SET value = max(value, ?) WHERE key = ?", (value, key))

    def deletions(self) -> list[Deletion]:
        """All deletions that were ever asked for, oldest first."""
        with self._guard:
            rows = self._db.execute("SELECT * FROM deletions ORDER BY id").fetchall()
        return [Deletion.of_row(row) for row in rows]

    def add_deletion(self, found: Deletion, streams: Streams) -> Deletion:
        """Record a deletion, and the streams, so that their numbers stay; the same deletion with its number."""
        with self._saving(streams):
            cursor = self._db.execute(
                "INSERT INTO deletions (tenant, query, start_ts, end_ts, seq, streams, conditions, requested, rows)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0)",
                found.row(),
            )
            # An entry that comes later is never hidden, even where those before it are lost with a log.
            self._db.execute("UPDATE store SET value = max(value, ?) WHERE key = 'last_seq'", (found.seq,))
            return replace(found, id=int(cursor.lastrowid or 0))

    def finish_deletion(self, number: int) -> None:
        """Note that nothing of a deletion is left to do."""
        with self._transaction():
            self._db.execute("UPDATE deletions SET finished = ? WHERE id = ?", (int(time.time()), number))
        self._empty_journal()

    def forget_streams(self, numbers: Sequence[int]) -> None:
        """Remove streams that have no entries any more. Their numbers are not used again."""
        with self._transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO store VALUES ('last_stream', ?)",
                (self._db.execute(_LAST_STREAM).fetchone()[0],),
            )
            self._db.executemany("DELETE FROM streams WHERE id = ?", [(number,) for number in numbers])
        self._empty_journal()

    def _empty_journal(self) -> None:
        """Leave no trace of what was deleted in SQLite's journal either."""
        with self._guard:
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def growth(self) -> list[tuple[int, int, int, int]]:
        """For each day (since 1970, UTC) in which entries came: entries, bytes of lines, bytes on disk."""
        with self._guard:
            return self._db.execute(
                "SELECT created / 86400, sum(rows), sum(line_bytes), sum(bytes + index_bytes) FROM segments"
                " GROUP BY 1 ORDER BY 1"
            ).fetchall()

    def problems(self) -> list[str]:
        """What is wrong with the file itself: SQLite's own check, and whether all of it can be read."""
        try:
            found = [str(row[0]) for row in self._db.execute("PRAGMA integrity_check(10)")]
            if found == ["ok"]:
                ((streams, highest),) = self._db.execute("SELECT count(*), coalesce(max(id), 0) FROM streams")
                (forgotten,) = self._db.execute(
                    "SELECT coalesce(max(value), 0) FROM store WHERE key = 'last_stream'"
                ).fetchone()
                if highest > forgotten + streams + STREAM_GAP:
                    return [f"a stream has the number {highest}, and there are {streams}"]
                for read in (self.segments, self.load_streams, self.deletions, self.sources):
                    read()
                found = [name for name in ("generation", "last_seq", "number") if getattr(self, name) < 0]
        except (sqlite3.DatabaseError, ValueError, TypeError, KeyError, AttributeError) as error:
            return [f"it cannot be read: {error}"]
        return found

    def set_stream(self, number: int, tenant: str, text: str) -> None:
        """Correct a stream, or add one."""
        with self._transaction():
            self._db.execute("INSERT OR IGNORE INTO streams VALUES (?, ?, ?)", (number, tenant, text))
            self._db.execute("UPDATE OR IGNORE streams SET labels = ? WHERE id = ?", (text, number))

    def copy(self, target: Path) -> None:
        """Write a copy of the file as it is at this moment."""
        with contextlib.closing(sqlite3.connect(target)) as other:
            self._db.backup(other)

    def close(self) -> None:
        """Close the database."""
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._guard:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise


def read_beside(directory: Path) -> Catalogue:
    """The catalogue of the store in `directory`, to be read only. Raises InputError where there is no store."""
    path = directory / "catalogue.sqlite"
    if not path.is_file():
        raise InputError(f"there is no log store at {directory}", "name the directory of one with --data")
    return Catalogue(path, read_only=True)


def _made(row: tuple[Any, ...]) -> Made:
    held = Held.decode(row[-1]) if row[-1] is not None else None
    *columns, keys, purged, _ = row
    return Made(Segment(*[*columns, tuple(orjson.loads(keys)), purged]), held)
