"""Under which account servers run when Atalaia runs as root, and which directories that account can reach."""

from __future__ import annotations

import grp
import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from atalaia.environment.errors import InputError


@dataclass(frozen=True, slots=True)
class Account:
    """An operating-system account that is not root."""

    name: str
    uid: int
    gid: int

    def reaches(self, path: Path) -> bool:
        """Whether the account may pass through every directory from / down to `path` (those that exist)."""
        resolved = path.resolve()
        for folder in (*reversed(resolved.parents), resolved):
            try:
                status = folder.stat()
            except OSError:
                return True  # what does not exist yet will be created for the account
            if not stat.S_ISDIR(status.st_mode):
                continue
            if status.st_uid == self.uid:
                bit = stat.S_IXUSR
            elif status.st_gid == self.gid or self._member(status.st_gid):
                bit = stat.S_IXGRP
            else:
                bit = stat.S_IXOTH
            if not status.st_mode & bit:
                return False
        return True

    def _member(self, gid: int) -> bool:
        try:
            return self.name in grp.getgrgid(gid).gr_mem
        except KeyError:
            return False


def server_account(configured: str | None = None) -> Account | None:
    """The account for servers: None when we are not root, else `configured`, postgres or nobody.

    PostgreSQL refuses to run as root. Raises InputError when `configured` does not exist or is root.
    """
    if os.geteuid() != 0:
        return None
    for name in (configured,) if configured else ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        if entry.pw_uid == 0:
            raise InputError("runtime.account is root", "PostgreSQL refuses to run as root: name an ordinary account")
        return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise InputError(
        f"the account {configured or 'postgres'!r} does not exist",
        "create it with `useradd --system`, or name another in runtime.account",
    )
