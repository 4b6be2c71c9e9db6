"""How streaming goes: one JSON file a server, written every second or so by whoever streams."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from atalaia.backup.site import Site
from atalaia.runtime.process import Process


@dataclass(frozen=True, slots=True)
class Status:
    """`state`: streaming, waiting (for the server), spooling (the repository is away), full (so is the spool), stopped.

    LSNs are text. `lag_bytes` is what the server has flushed and the archive has not; `lag_seconds` how long the oldest
    of that has been there. `archived_at` is when the newest WAL was archived, `covered_until` the last moment at which
    all of the server's WAL was. `problem` says what is wrong, `interruptions` where recovery has holes.
    """

    server: str
    state: str
    pid: int
    started: int
    written: datetime
    system: str = ""
    timeline: int = 0
    slot: str = ""
    slot_safe_bytes: int | None = None
    server_lsn: str = ""
    received_lsn: str = ""
    archived_lsn: str = ""
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    archived_at: datetime | None = None
    covered_until: datetime | None = None
    spool_bytes: int = 0
    problem: str = ""
    remedy: str = ""
    interruptions: tuple[str, ...] = field(default=())

    @property
    def alive(self) -> bool:
        """Whether the process that writes it still runs."""
        return Process(self.pid, self.started).alive()

    def as_dict(self) -> dict[str, Any]:
        """For programs; `alive` beside the fields."""
        data = {name: getattr(self, name) for name in self.__slots__}
        times = {name: value.isoformat() for name, value in data.items() if isinstance(value, datetime)}
        return data | times | {"interruptions": list(self.interruptions), "alive": self.alive}


def path_of(site: Site, server: str) -> Path:
    """Where a server's status lies."""
    return site.locks / f"wal-{server}.json"


def begin(server: str) -> Status:
    """The status of this process, before anything is known."""
    process = Process.of(os.getpid())
    assert process
    return Status(server, "waiting", process.pid, process.started, datetime.now(UTC))


def save(site: Site, status: Status) -> None:
    """Write it. A full disk does not end streaming: it is not written then."""
    path = path_of(site, status.server)
    partial = path.with_name(f".{path.name}.{status.pid}.partial")
    # Not synced: it is of use to nobody after a crash of the machine.
    with contextlib.suppress(OSError):
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(orjson.dumps(replace(status, written=datetime.now(UTC)), option=orjson.OPT_INDENT_2))
        partial.replace(path)


def load(site: Site, server: str) -> Status | None:
    """The last status of a server; None when WAL was never streamed. It may be of a process that has ended: `alive`."""
    try:
        data = orjson.loads(path_of(site, server).read_bytes())
        for name in ("written", "archived_at", "covered_until"):
            data[name] = datetime.fromisoformat(data[name]) if data[name] else None
        return Status(**data | {"interruptions": tuple(data["interruptions"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
