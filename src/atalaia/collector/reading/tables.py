"""The positions file's tables: opened, checked, read, and taken over from what an older Atalaia wrote."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import time
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from atalaia.collector.reading.identity import Known
from atalaia.environment.errors import InputError

VERSION = 2  # 1 was a JSON file
_FORGET = 30 * 86_400  # seconds after which a vanished file is forgotten
_FORGET_GONE = 86_400  # the same for content that was overwritten, which at most a copy still has
UNREACHABLE = (
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_PERM,
)
_LEAST = 512  # bytes of the smallest database
_COLUMNS = [field.name for field in fields(Known)]
_TYPED = [f"{c} {'TEXT' if c in ('job', 'path', 'real') else 'INTEGER'} NOT NULL" for c in _COLUMNS[1:]]
_TABLES = f"""
CREATE TABLE about (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE files (
    id TEXT PRIMARY KEY, {", ".join(_TYPED)}
) WITHOUT ROWID;
CREATE TABLE planned (
    id TEXT NOT NULL, start INTEGER NOT NULL, "end" INTEGER NOT NULL, read_at INTEGER NOT NULL, PRIMARY KEY (id, start)
) WITHOUT ROWID;
INSERT INTO about VALUES ('version', {VERSION});
"""
PUT = f"INSERT OR REPLACE INTO files ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"
SETTLED = 'DELETE FROM planned WHERE "end" <= coalesce((SELECT "offset" FROM files WHERE files.id = planned.id), 0)'


@dataclass(frozen=True, slots=True)
class Planned:
    """The bytes `start` to `end` of a known file, read at `read_at` (ns), are about to be sent."""

    known_id: str
    start: int
    end: int
    read_at: int


def connect(path: Path) -> sqlite3.Connection:
    """Open, create or take over. Raises InputError when it is damaged, OSError and sqlite3.Error when it cannot be."""
    db = _open(path)
    try:
        _long_enough(path)
        found = db.execute("SELECT name FROM sqlite_master WHERE name = 'about'").fetchone()
        older = {} if found else of_json(path.with_suffix(".json")) if path.suffix == ".db" else {}
    except sqlite3.OperationalError:
        db.close()
        raise
    except sqlite3.DatabaseError as error:
        db.close()
        older = of_json(path)
        if not older and not _is_json(path):
            raise _damaged(path, error) from error
        path.replace(path.with_name(f"{path.name}.old"))
        db = _open(path)
        found = None
    try:
        db.execute("PRAGMA journal_mode = WAL")
        if not found:
            db.execute("PRAGMA synchronous = FULL")
            db.executescript(f"BEGIN IMMEDIATE;{_TABLES}")
            db.executemany(PUT, [astuple(known) for known in older.values()])
            db.execute("COMMIT")
        now = int(time.time())
        if found:
            _checked(db, path)
        db.execute("DELETE FROM files WHERE seen < ? OR (inode = 0 AND seen < ?)", (now - _FORGET, now - _FORGET_GONE))
    except BaseException:
        db.close()
        raise
    return db


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=2)


def _long_enough(path: Path) -> None:
    """SQLite takes less than a page for nothing, and would write over it."""
    # The file is not opened for that: closing it would drop the locks of a connection in this process.
    if 0 < path.stat().st_size < _LEAST:
        raise sqlite3.DatabaseError("it is not a database")


def _checked(db: sqlite3.Connection, path: Path) -> None:
    try:
        _long_enough(path)
        version = db.execute("SELECT value FROM about WHERE key = 'version'").fetchone()
        if version is None or type(version[0]) is not int:
            raise sqlite3.DatabaseError("it has no version")
        if version[0] != VERSION:
            raise InputError(f"{path} has version {version[0]}", "use the newer Atalaia that wrote it")
        (state,) = db.execute("PRAGMA quick_check(1)").fetchone()
        if state != "ok":
            raise sqlite3.DatabaseError(state)
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in UNREACHABLE:
            raise
        raise _damaged(path, error) from error


def _empty(db: sqlite3.Connection, path: Path) -> bool:
    """Whether a collector is about to make the tables."""
    with contextlib.suppress(sqlite3.DatabaseError):
        _long_enough(path)
        return not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    return False


def rows(db: sqlite3.Connection, path: Path) -> tuple[dict[str, Known], dict[str, list[Planned]]]:
    """The files and the planned chunks. Errors as `connect`."""
    known: dict[str, Known] = {}
    planned: dict[str, list[Planned]] = {}
    try:
        for row in db.execute(f"SELECT {', '.join(_COLUMNS)} FROM files"):
            known[row[0]] = _typed(Known(*row))
        for values in db.execute("SELECT * FROM planned ORDER BY id, start"):
            planned.setdefault(values[0], []).append(Planned(*values))
    except (sqlite3.DatabaseError, TypeError) as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in UNREACHABLE:
            raise
        raise _damaged(path, error) from error
    return known, planned


def _typed(known: Known) -> Known:
    for name, value in zip(_COLUMNS, astuple(known), strict=True):
        if type(value) is not (str if name in ("id", "job", "path", "real") else int):
            raise TypeError(f"{name} of {known.path} is not what it should be")
    return known


def _is_json(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return path.read_bytes()[:1] == b"{"
    return False


def of_json(path: Path) -> dict[str, Known]:
    """What version 1 kept; empty when there is no such file. Raises InputError when it is damaged."""
    if not _is_json(path):
        return {}
    try:
        data = json.loads(path.read_text())
        if data["version"] != 1:
            raise InputError(f"{path} has version {data['version']}", "use the newer Atalaia that wrote it")
        return {key: _typed(Known(id=key, **{"real": value["path"], **value})) for key, value in data["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(
        f"the positions file {path} cannot be read: {error}",
        "move it away to begin anew; the store keeps what it has",
    )


def load(path: Path) -> tuple[dict[str, Known], dict[str, list[Planned]]]:
    """What a file holds, beside the collector that has it open. Raises InputError when it is damaged."""
    try:
        # `immutable` would pass over what is in the write-ahead log; only a folder that cannot be written needs it.
        writable = os.access(path.parent, os.W_OK)
        where = f"{path.absolute().as_uri()}?mode={'rw' if writable else 'ro&immutable=1'}"
        with contextlib.closing(sqlite3.connect(where, uri=True, timeout=2)) as db:
            if _empty(db, path):
                return {}, {}
            _checked(db, path)
            return rows(db, path)
    except InputError:
        if known := of_json(path):
            return known, {}
        raise
    except (OSError, sqlite3.Error) as error:
        raise _damaged(path, error) from error
