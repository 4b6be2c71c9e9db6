"""Rows of a catalogue as tests need them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from atalaia.backup.model import Backup, State

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


def row(identifier: str, age: timedelta = timedelta(), state: State = State.VERIFIED, **values: Any) -> Backup:
    """A backup of postgres_a that began `age` before NOW and took a minute."""
    started = NOW - age
    given: dict[str, Any] = {
        "server": "postgres_a",
        "kind": "logical",
        "finished": None if state is State.RUNNING else started + timedelta(minutes=1),
        "sha256": "0" * 64,
        "size": 1000,
        "raw_size": 100_000_000,
    }
    return Backup(
        id=identifier, state=state, started=started, server_version="16.14", client_version="16.14", **(given | values)
    )
