"""Private directories for what a backup or a restore needs on its way; swept when their process was killed."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from atalaia.postgres.temporary import STAGING, own


@contextlib.contextmanager
def staging(parent: Path) -> Iterator[Path]:
    """A new directory of mode 0700 below `parent`, removed at the end."""
    parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    folder = own(parent, None, STAGING)
    folder.chmod(0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
