"""The state directory `.atalaia/`: every path that Atalaia writes to has its name here and nowhere else."""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class State:
    """The paths below `.atalaia/`. Creating them is left to whoever writes there first."""

    root: Path

    @property
    def file(self) -> Path:
        """What is remembered between runs: ports, where the servers' directories lie."""
        return self.root / "state.json"

    @property
    def logs(self) -> Path:
        """The embedded log store."""
        return self.root / "store"

    @property
    def backups(self) -> Path:
        """The default backup repository."""
        return self.root / "backups"

    @property
    def backup_catalogue(self) -> Path:
        """What is known of all backups: one row alone makes a backup."""
        return self.root / "backups.sqlite"

    @property
    def backup_runs(self) -> Path:
        """What the backups' schedule has done."""
        return self.root / "backup-runs.json"

    @property
    def secrets(self) -> Path:
        """Generated passwords, 0700 with files 0600."""
        return self.root / "secrets"

    @property
    def own_token(self) -> Path:
        """What lets the environment's own parts ask its log store."""
        return self.secrets / "own.token"

    @property
    def run(self) -> Path:
        """PIDs, locks and the supervisor's control socket."""
        return self.root / "run"

    @property
    def collector(self) -> Path:
        """The collector's positions."""
        return self.root / "collector"

    @property
    def own_logs(self) -> Path:
        """What the supervisor, the store and the collector say of themselves."""
        return self.root / "log"

    @property
    def servers(self) -> Path:
        """One directory a server: data/, log/ and stderr.log. May be a link to where a server's account can reach."""
        return self.root / "servers"

    def create(self) -> None:
        """Create the root, private to the user, unless it exists."""
        self.root.mkdir(parents=True, exist_ok=True)
        for private in (self.secrets, self.run):
            private.mkdir(mode=0o700, exist_ok=True)
        for shared in (self.own_logs, self.collector):
            shared.mkdir(exist_ok=True)

    def remembered(self) -> dict[str, Any]:
        """What `remember` kept; empty when nothing was, or when the file is damaged (it can all be found anew)."""
        try:
            data = json.loads(self.file.read_text())
        except (OSError, ValueError):
            return {}
        return data if isinstance(data, dict) else {}

    def remember(self, **values: Any) -> None:
        """Keep `values` beside what is remembered already."""
        self.create()
        write_atomically(self.file, json.dumps(self.remembered() | values, indent=2, sort_keys=True) + "\n")


def write_atomically(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace `path` by `text` so that a crash leaves either the old or the new file, whole and on disk."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        os.fchmod(descriptor, mode)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and new names in `path` durable (fsync(2): a file's own fsync does not cover its name)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
