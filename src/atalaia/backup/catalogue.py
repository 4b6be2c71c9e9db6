"""The catalogue: one SQLite file of the environment, whose row alone makes objects in a repository a backup."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any

from atalaia.backup.model import Backup, Copy, State, Verification
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.runtime.process import Process

SCHEMA = 2
_COLUMNS = (
    *("id", "server", "kind", "parent", "state", "started", "finished", "server_version", "client_version", "size"),
    *("raw_size", "sha256", "contents", "settings", "details", "messages", "error", "keep"),
)
_JSON = ("contents", "settings", "details")
_TIMES = ("started", "finished")
# Seconds. A reader may wait while a row is written; nothing here holds it for longer than one row takes.
_PATIENCE = 30.0
_REBUILD = "move it away and run `atalaia backup rebuild`, which finds all backups in the repository again"
_REMEDIES = {
    sqlite3.SQLITE_BUSY: "another process holds it: `fuser -v` of that file names it; try again when it has ended",
    sqlite3.SQLITE_FULL: "make room on its disk, then try again",
    sqlite3.SQLITE_READONLY: "its disk or its rights do not let it be written: correct that, then try again",
    sqlite3.SQLITE_CANTOPEN: "see that its directory exists and may be written, then try again",
    sqlite3.SQLITE_IOERR: "its disk fails: see the kernel's log (`dmesg`), then try again",
}


@contextmanager
def _open(path: Path) -> Iterator[sqlite3.Connection]:
    """The catalogue in a transaction, created when it does not exist.

    Raises AtalaiaError when it is damaged or was written by a newer Atalaia.
    """
    connection = sqlite3.connect(path, timeout=_PATIENCE, isolation_level=None)
    try:
        # EXTRA is FULL, and the directory is synced too after the journal is removed: what is committed
        # stays.
        connection.execute("PRAGMA synchronous = EXTRA")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > SCHEMA:
            raise AtalaiaError(
                f"{path} was written by a newer Atalaia (schema {version}, this one knows {SCHEMA})",
                "use that version",
            )
        if version == 0:
            for statement in files("atalaia.backup").joinpath("schema.sql").read_text().split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            path.chmod(0o600)
        yield connection
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        remedy = _REMEDIES.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, _REBUILD)
        raise AtalaiaError(f"the catalogue {path} cannot be used: {error}", remedy) from error
    finally:
        connection.close()  # rolls back what was not committed


def begin(path: Path, backup: Backup, process: Process) -> None:
    """Note that a backup is being made by `process`."""
    with _open(path) as connection:
        values = _values(backup) | {"pid": process.pid, "pid_started": process.started}
        marks = ", ".join(f":{name}" for name in values)
        statement = f"INSERT INTO backup ({', '.join(values)}) VALUES ({marks})"
        connection.execute(statement, values)


def add(path: Path, backup: Backup) -> None:
    """Note a backup that was found in a repository, with its verifications and copies."""
    with _open(path) as connection:
        values = _values(backup) | {"pid": 0, "pid_started": 0}
        marks = ", ".join(f":{name}" for name in values)
        connection.execute(f"INSERT INTO backup ({', '.join(values)}) VALUES ({marks})", values)
        for test in backup.verifications:
            _note(connection, backup, test)
        for copy in backup.copies:
            connection.execute(
                "INSERT INTO copy VALUES (?, ?, ?, ?)", (backup.id, copy.repository, _iso(copy.at), copy.problem)
            )


def put(path: Path, backup: Backup) -> None:
    """Replace the row of a backup."""
    with _open(path) as connection:
        values = _values(backup)
        marks = ", ".join(f"{name} = :{name}" for name in values)
        statement = f"UPDATE backup SET {marks} WHERE id = :id"
        connection.execute(statement, values)


def judge(path: Path, backup: Backup, verification: Verification) -> Backup:
    """Note a verification, and make the backup verified or failed by it; the backup as it is now."""
    now = replace(
        backup,
        state=State.VERIFIED if verification.passed else State.FAILED,
        error="" if verification.passed else verification.detail,
        verifications=(*backup.verifications, verification),
    )
    with _open(path) as connection:
        _note(connection, backup, verification)
        connection.execute("UPDATE backup SET state = ?, error = ? WHERE id = ?", (now.state.value, now.error, now.id))
    return now


def mark(path: Path, backup: Backup, keep: str) -> None:
    """Note until when retention must leave a backup; see Backup.keep."""
    with _open(path) as connection:
        connection.execute("UPDATE backup SET keep = ? WHERE id = ?", (keep, backup.id))


def _note(connection: sqlite3.Connection, backup: Backup, test: Verification) -> None:
    connection.execute(
        "INSERT INTO verification VALUES (?, ?, ?, ?, ?, ?)",
        (backup.id, _iso(test.at), int(test.passed), test.seconds, test.server_version, test.detail),
    )


def copied(path: Path, backup: Backup, copy: Copy) -> None:
    """Note that a further repository has a backup, or has it not."""
    with _open(path) as connection:
        connection.execute(
            "INSERT OR REPLACE INTO copy VALUES (?, ?, ?, ?)", (backup.id, copy.repository, _iso(copy.at), copy.problem)
        )


def forget(path: Path, backup: Backup) -> None:
    """Remove the row of a backup and what was noted of it. Its objects must be gone already."""
    with _open(path) as connection:
        connection.execute("DELETE FROM backup WHERE id = ?", (backup.id,))


def list_backups(path: Path) -> list[Backup]:
    """Every backup that was ever begun, oldest first; none when there is no catalogue."""
    if not path.is_file():
        return []
    with _open(path) as connection:
        tests: dict[str, list[Verification]] = {}
        for backup, at, passed, seconds, version, detail in connection.execute(
            "SELECT backup, at, passed, seconds, server_version, detail FROM verification ORDER BY at, rowid"
        ):
            tests.setdefault(backup, []).append(Verification(_time(at), bool(passed), seconds, version, detail))
        copies: dict[str, list[Copy]] = {}
        for backup, repository, at, problem in connection.execute("SELECT * FROM copy ORDER BY repository"):
            copies.setdefault(backup, []).append(Copy(repository, _time(at), problem))
        rows = connection.execute(f"SELECT {', '.join(_COLUMNS)} FROM backup ORDER BY started, id").fetchall()
    return [_backup(row, tuple(tests.get(row[0], ())), tuple(copies.get(row[0], ()))) for row in rows]


def get(path: Path, identifier: str) -> Backup:
    """One backup by its id. Raises InputError, naming what there is, when there is none."""
    backups = list_backups(path)
    for backup in backups:
        if backup.id == identifier:
            return backup
    known = ", ".join(backup.id for backup in backups[-5:]) or "none yet"
    raise InputError(
        f"there is no backup {identifier!r}",
        f"`atalaia backup list` shows all; the last: {known}",
    )


def _values(backup: Backup) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(backup, name) for name in _COLUMNS}
    values |= {name: json.dumps(values[name], ensure_ascii=False, sort_keys=True) for name in _JSON}
    values |= {name: _iso(values[name]) if values[name] else None for name in _TIMES}
    return values | {"state": backup.state.value}


def _backup(row: tuple[Any, ...], verifications: tuple[Verification, ...], copies: tuple[Copy, ...]) -> Backup:
    values = dict(zip(_COLUMNS, row, strict=True))
    values |= {name: json.loads(values[name]) for name in _JSON}
    values |= {name: _time(values[name]) if values[name] else None for name in _TIMES}
    return Backup(**values | {"state": State(values["state"])}, verifications=verifications, copies=copies)


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
