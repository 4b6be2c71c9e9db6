"""The catalogue: one SQLite file in the repository, whose row alone makes a file a backup."""

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

from atalaia.backup.model import Backup, State, Verification
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.runtime.process import Process

FILE = "catalogue.sqlite"
SCHEMA = 1
_COLUMNS = (
    "id, server, kind, state, file, started, finished, server_version, client_version, size, "
    "raw_size, sha256,"
    " contents, settings, messages, error"
)


@contextmanager
def _open(repository: Path) -> Iterator[sqlite3.Connection]:
    """The catalogue in a transaction, created when it does not exist.

    Raises AtalaiaError when it is damaged or was written by a newer Atalaia.
    """
    path = repository / FILE
    # A reader may wait while a row is written; nothing here holds it for longer than one row takes.
    connection = sqlite3.connect(path, timeout=30, isolation_level=None)
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
                "use that version, or another repository",
            )
        if version == 0:
            for statement in files("atalaia.backup").joinpath("schema.sql").read_text().split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA}")
            path.chmod(0o600)
        yield connection
        connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise AtalaiaError(
            f"the catalogue {path} cannot be used: {error}",
            "check the disk; the dumps beside it restore without it (docs/backup.md)",
        ) from error
    finally:
        connection.close()  # rolls back what was not committed


def begin(repository: Path, backup: Backup, process: Process) -> None:
    """Note that a backup is being made by `process`."""
    with _open(repository) as connection:
        values = _values(backup) | {"pid": process.pid, "pid_started": process.started}
        marks = ", ".join(f":{name}" for name in values)
        statement = f"INSERT INTO backup ({', '.join(values)}) VALUES ({marks})"
        connection.execute(statement, values)


def put(repository: Path, backup: Backup) -> None:
    """Replace the row of a backup."""
    with _open(repository) as connection:
        values = _values(backup)
        marks = ", ".join(f"{name} = :{name}" for name in values)
        statement = f"UPDATE backup SET {marks} WHERE id = :id"
        connection.execute(statement, values)


def judge(repository: Path, backup: Backup, verification: Verification) -> Backup:
    """Note a verification, and make the backup verified or failed by it; the backup as it is now."""
    now = replace(
        backup,
        state=State.VERIFIED if verification.passed else State.FAILED,
        error="" if verification.passed else verification.detail,
        verifications=(*backup.verifications, verification),
    )
    with _open(repository) as connection:
        connection.execute(
            "INSERT INTO verification VALUES (?, ?, ?, ?, ?, ?)",
            (
                backup.id,
                _iso(verification.at),
                int(verification.passed),
                verification.seconds,
                verification.server_version,
                verification.detail,
            ),
        )
        connection.execute("UPDATE backup SET state = ?, error = ? WHERE id = ?", (now.state.value, now.error, now.id))
    return now


def list_backups(repository: Path) -> list[Backup]:
    """Every backup that was ever begun, oldest first; none when there is no repository."""
    if not (repository / FILE).is_file():
        return []
    with _open(repository) as connection:
        tests: dict[str, list[Verification]] = {}
        for backup, at, passed, seconds, version, detail in connection.execute(
            "SELECT backup, at, passed, seconds, server_version, detail FROM verification ORDER BY at, rowid"
        ):
            tests.setdefault(backup, []).append(Verification(_time(at), bool(passed), seconds, version, detail))
        query = f"SELECT {_COLUMNS} FROM backup ORDER BY started, id"
        rows = connection.execute(query).fetchall()
    return [_backup(row, tuple(tests.get(row[0], ()))) for row in rows]


def get(repository: Path, identifier: str) -> Backup:
    """One backup by its id. Raises InputError, naming what there is, when there is none."""
    backups = list_backups(repository)
    for backup in backups:
        if backup.id == identifier:
            return backup
    known = ", ".join(backup.id for backup in backups[-5:]) or "none yet"
    raise InputError(
        f"there is no backup {identifier!r} in {repository}",
        f"`atalaia backup list` shows all; the last: {known}",
    )


def _values(backup: Backup) -> dict[str, Any]:
    return {
        "id": backup.id,
        "server": backup.server,
        "kind": backup.kind,
        "state": backup.state.value,
        "file": backup.file,
        "started": _iso(backup.started),
        "finished": _iso(backup.finished) if backup.finished else None,
        "server_version": backup.server_version,
        "client_version": backup.client_version,
        "size": backup.size,
        "raw_size": backup.raw_size,
        "sha256": backup.sha256,
        "contents": json.dumps(backup.contents, ensure_ascii=False, sort_keys=True),
        "settings": json.dumps(backup.settings, sort_keys=True),
        "messages": backup.messages,
        "error": backup.error,
    }


def _backup(row: tuple[Any, ...], verifications: tuple[Verification, ...]) -> Backup:
    (identifier, server, kind, state, file, started, finished, *versions_and_sizes) = row
    (server_version, client_version, size, raw_size, sha256, contents, settings, messages, error) = versions_and_sizes
    return Backup(
        identifier, server, kind, State(state), file, _time(started), _time(finished) if finished else None,
        server_version, client_version, size, raw_size, sha256, json.loads(contents), json.loads(settings),
        messages, error, verifications,
    )  # fmt: skip


def _iso(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)
