"""A lock per server that whoever uses its backups shares, and whoever removes some has alone (flock(2)).

It goes with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from atalaia.backup.model import Progress
from atalaia.backup.site import Site
from atalaia.environment.errors import AtalaiaError

_PATIENCE = 600.0  # seconds that a removal may take; object stores are slow
_PAUSE = 0.1


@contextmanager
def using(site: Site, server: str, progress: Progress = lambda _: None) -> Iterator[None]:
    """Nothing of a server's backups is removed within; waits while something is. Raises AtalaiaError after that."""
    descriptor = _open(site, server)
    try:
        deadline = time.monotonic() + _PATIENCE
        told = False
        while not _take(descriptor, fcntl.LOCK_SH):
            if not told:
                progress(f"waiting until `atalaia backup prune` is done with {server}")
                told = True
            if time.monotonic() > deadline:
                raise AtalaiaError(
                    f"backups of {server} are being removed for {_PATIENCE:.0f} s already",
                    "see what `atalaia backup prune` waits for, then try again",
                )
            time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def removing(site: Site, server: str) -> Iterator[bool]:
    """Whether a server's backups may be removed within: nobody makes, tests, copies or restores one."""
    descriptor = _open(site, server)
    try:
        # `busy` may look at this moment: once more, then.
        taken = _take(descriptor, fcntl.LOCK_EX)
        if not taken:
            time.sleep(_PAUSE)
            taken = _take(descriptor, fcntl.LOCK_EX)
        yield taken
    finally:
        os.close(descriptor)


def busy(locks: Path, server: str) -> bool:
    """Whether somebody uses a server's backups, or removes some. `locks` is the site's."""
    try:
        descriptor = os.open(_path(locks, server), os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not _take(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def _path(locks: Path, server: str) -> Path:
    return locks / f"backup-{server}.use"


def _open(site: Site, server: str) -> int:
    site.locks.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.open(_path(site.locks, server), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _take(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
