"""Where logs and stores are: a temporary folder, or a directory that is kept so that its store can be asked again."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from atalaia.environment.errors import InputError


@dataclass(frozen=True, slots=True)
class Place:
    """`scratch` vanishes at the end; `kept` has the logs and the store that queries are asked of."""

    scratch: Path
    kept: Path

    @property
    def logs(self) -> Path:
        """The generated logs."""
        return self.kept / "logs"

    @property
    def store(self) -> Path:
        """The store with all logs in it."""
        return self.kept / "store"

    @property
    def filled(self) -> bool:
        """Whether the store has all logs."""
        return self._mark.exists()

    @property
    def _mark(self) -> Path:
        return self.kept / "filled.json"

    def check(self, content: dict[str, object]) -> None:
        """Raise InputError when what is kept has other logs than `content` tells, or was filled in part only."""
        if self.filled and json.loads(self._mark.read_text()) != content:
            raise InputError(
                f"{self.kept} has other logs: {self._mark.read_text()}", "name another directory, or the same logs"
            )
        if not self.filled and self.store.exists():
            raise InputError(f"{self.kept} was filled in part only", "remove it, or name another directory")

    def mark(self, content: dict[str, object]) -> None:
        """Note that the store is filled."""
        self._mark.write_text(json.dumps(content))


@contextmanager
def workplace(data: Path | None, folder: Path | None) -> Iterator[Place]:
    """A place with its temporary part below `folder`; `data` is the directory to keep."""
    with tempfile.TemporaryDirectory(prefix="atalaia-bench-", dir=folder) as name:
        scratch = Path(name)
        scratch.chmod(0o755)  # the servers' account goes through it
        kept = (data or scratch / "kept").resolve()
        kept.mkdir(parents=True, exist_ok=True)
        yield Place(scratch, kept)
