"""Private directories for what a backup or a restore needs on its way; swept when their process was killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from atalaia.runtime.process import Process

_OWNER = "owner.json"
_PREFIX = "staging-"


@contextlib.contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """A new directory of mode 0700 below `parent`, removed at the end."""
    parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="new-", dir=parent))
    process = Process.of(os.getpid())
    assert process
    process.save(folder / _OWNER)
    # It has the name that `sweep` looks at only when it says whose it is.
    folder = folder.rename(parent / folder.name.replace("new-", _PREFIX))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path) -> list[Path]:
    """Remove the staging directories whose process was killed; what was removed."""
    removed = []
    for folder in sorted(parent.glob(f"{_PREFIX}*")):
        if not Process.read(folder / _OWNER):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed
