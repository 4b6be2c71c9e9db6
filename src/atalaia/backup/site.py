"""Where backups are kept, tested and restored to, and with which binaries: what an environment says of
backups.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atalaia.environment.load import Environment
from atalaia.postgres.binaries import Installation, find
from atalaia.postgres.places import directory, reachable
from atalaia.runtime.accounts import Account, server_account


@dataclass(frozen=True, slots=True)
class Site:
    """`temporary` is for restore tests and `restored` for restored servers; `account` can reach both.

    `binaries` has the configured directories by major version.
    """

    repository: Path
    temporary: Path
    restored: Path
    account: Account | None
    binaries: Mapping[int, Path]

    def installation(self, major: int) -> Installation:
        """The programs of a major version. Raises InputError when there are none."""
        return reachable(find(major, self.binaries.get(major)), self.account)


def of(environment: Environment) -> Site:
    """The site of an environment; creates the directories for servers, not the repository."""
    account = server_account(environment.settings.runtime.account)
    servers = environment.settings.servers.values()
    return Site(
        repository=environment.repository,
        temporary=directory(environment.state, account, "temporary"),
        restored=directory(environment.state, account, "restored"),
        account=account,
        binaries={s.version: environment.resolve(s.binaries) for s in servers if s.binaries},
    )
