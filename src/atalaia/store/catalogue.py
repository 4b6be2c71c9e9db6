"""The catalogue: which segments, streams and sources exist. A segment exists once its row is committed."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import orjson

from atalaia.environment.errors import AtalaiaError
from atalaia.store.memory import StreamRange
from atalaia.store.segment import Segment
from atalaia.store.streams import Streams

FORMAT = 1
_SOURCE_LIFE = 90 * 86_400  # seconds; a file that has not grown for so long will not be sent again
_SCHEMA = """
CREATE TABLE store (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE streams (
    id INTEGER PRIMARY KEY, tenant TEXT NOT NULL, labels TEXT NOT NULL, UNIQUE (tenant, labels)
) STRICT;
CREATE TABLE sources (id TEXT PRIMARY KEY, position INTEGER NOT NULL, seen INTEGER NOT NULL) STRICT;
CREATE TABLE segments (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, rows INTEGER NOT NULL, bytes INTEGER NOT NULL,
    line_bytes INTEGER NOT NULL, min_ts INTEGER NOT NULL, max_ts INTEGER NOT NULL,
    first_seq INTEGER NOT NULL, last_seq INTEGER NOT NULL, crc32 INTEGER NOT NULL, created INTEGER NOT NULL,
    templates TEXT
) STRICT;
CREATE TABLE segment_streams (
    segment INTEGER NOT NULL REFERENCES segments ON DELETE CASCADE, stream INTEGER NOT NULL,
    rows INTEGER NOT NULL, min_ts INTEGER NOT NULL, max_ts INTEGER NOT NULL, PRIMARY KEY (segment, stream)
) STRICT, WITHOUT ROWID;
"""


class Catalogue:
    """One open catalogue. Used by one thread at a time (the store's lock sees to it)."""

    def __init__(self, path: Path) -> None:
        """Open or create; raises AtalaiaError for a damaged file or one of a newer format."""
        self._path = path
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            if not self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'store'").fetchone():
                self._db.executescript(
                    f"BEGIN;{_SCHEMA}INSERT INTO store VALUES ('format', {FORMAT}), ('generation', 0);COMMIT;"
                )
            found = self._value("format")
        except (sqlite3.DatabaseError, TypeError) as error:
            self._db.close()
            raise AtalaiaError(
                f"{path} cannot be opened: {error}",
                "restore the store's directory from a copy, or move it away to begin a new one",
            ) from error
        if found > FORMAT:
            self._db.close()
            raise AtalaiaError(
                f"the store at {path.parent} has format {found}; this Atalaia knows up to {FORMAT}",
                "use the newer Atalaia that wrote it",
            )

    def _value(self, key: str) -> int:
        return int(self._db.execute("SELECT value FROM store WHERE key = ?", (key,)).fetchone()[0])

    @property
    def generation(self) -> int:
        """The last generation of the memory table that is a segment (or was empty)."""
        return self._value("generation")

    def last_seq(self) -> int:
        """The highest seq in any segment so far, 0 for none."""
        row = self._db.execute("SELECT value FROM store WHERE key = 'last_seq'").fetchone()
        return int(row[0]) if row else 0

    def load_streams(self) -> Streams:
        """All streams that segments name."""
        streams = Streams()
        for number, tenant, labels in self._db.execute("SELECT id, tenant, labels FROM streams ORDER BY id"):
            streams.restore(number, tenant, labels)
        return streams

    def sources(self) -> dict[str, int]:
        """The end of each source in segments."""
        return dict(self._db.execute("SELECT id, position FROM sources"))

    def segments(self) -> list[tuple[Segment, dict[int, StreamRange]]]:
        """All segments, oldest first, with what each holds of each stream."""
        columns = "id, name, rows, bytes, line_bytes, min_ts, max_ts, first_seq, last_seq, crc32, templates"
        held: dict[int, dict[int, StreamRange]] = {}
        for segment, stream, rows, low, high in self._db.execute(
            "SELECT segment, stream, rows, min_ts, max_ts FROM segment_streams"
        ):
            held.setdefault(segment, {})[stream] = StreamRange(rows, low, high)
        rows_found = self._db.execute(f"SELECT {columns} FROM segments ORDER BY min_ts, id").fetchall()
        return [
            (replace(Segment(*row[1:-1]), templates=_templates(row[-1])), held.get(row[0], {})) for row in rows_found
        ]

    def add(
        self,
        segment: Segment | None,
        held: Mapping[int, StreamRange],
        streams: Streams,
        sources: Mapping[str, int],
        generation: int,
    ) -> None:
        """Make a segment exist, with its streams and sources, and set the generation: one transaction."""
        now = int(time.time())
        with self._transaction():
            if segment is not None:
                cursor = self._db.execute(
                    "INSERT INTO segments"
                    " (name, rows, bytes, line_bytes, min_ts, max_ts, first_seq, last_seq, crc32, created)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (segment.name, segment.rows, segment.size, segment.line_bytes, segment.min_ts, segment.max_ts,
                     segment.first_seq, segment.last_seq, segment.crc32, now),
                )  # fmt: skip
                self._db.executemany(
                    "INSERT OR IGNORE INTO streams VALUES (?, ?, ?)",
                    [(s.id, s.tenant, s.text) for s in map(streams.__getitem__, held)],
                )
                self._db.executemany(
                    "INSERT INTO segment_streams VALUES (?, ?, ?, ?, ?)",
                    [(cursor.lastrowid, stream, r.rows, r.min_ts, r.max_ts) for stream, r in held.items()],
                )
                self._db.execute(
                    "INSERT OR REPLACE INTO store VALUES ('last_seq', ?)",
                    (max(segment.last_seq, self.last_seq()),),
                )
            self._db.executemany(
                "INSERT INTO sources VALUES (?, ?, ?)"
                " ON CONFLICT (id) DO UPDATE SET position = excluded.position, seen = excluded.seen",
                [(source, position, now) for source, position in sources.items()],
            )
            self._db.execute("DELETE FROM sources WHERE seen < ?", (now - _SOURCE_LIFE,))
            self._db.execute("UPDATE store SET value = ? WHERE key = 'generation'", (generation,))

    def put_index(self, old: str, segment: Segment) -> None:
        """Take the file with templates for the one without, or note that the segment has too many of them."""
        with self._transaction():
            self._db.execute(
                "UPDATE segments SET name = ?, bytes = ?, crc32 = ?, templates = ? WHERE name = ?",
                (segment.name, segment.size, segment.crc32, orjson.dumps(segment.templates).decode(), old),
            )

    def remove(self, names: Iterable[str]) -> None:
        """Make segments cease to exist; their files are the caller's to remove, afterwards."""
        with self._transaction():
            self._db.executemany("DELETE FROM segments WHERE name = ?", [(name,) for name in names])

    def _transaction(self) -> _Transaction:
        return _Transaction(self._db)

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def _templates(text: str | None) -> dict[str, str] | None:
    found: dict[str, str] | None = orjson.loads(text) if text is not None else None
    return found


class _Transaction:
    """BEGIN … COMMIT, or ROLLBACK when the body raises."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            self._db.execute("ROLLBACK" if kind else "COMMIT")
        except sqlite3.Error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if not kind:
                raise
