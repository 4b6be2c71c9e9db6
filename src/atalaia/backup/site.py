"""Where backups are kept, tested and restored to, with which binaries and keys: what an environment says of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atalaia.backup import options
from atalaia.backup.vault import keys
from atalaia.backup.vault.keys import Keyring
from atalaia.backup.vault.local import LocalPlace
from atalaia.backup.vault.place import Place
from atalaia.backup.vault.remote import RemotePlace
from atalaia.environment.backing import BackupsSettings, remote
from atalaia.environment.errors import InputError
from atalaia.environment.load import Environment
from atalaia.environment.units import parse_duration
from atalaia.postgres.binaries import Installation, find
from atalaia.postgres.places import directory, reachable
from atalaia.runtime.accounts import Account, server_account


@dataclass(frozen=True, slots=True)
class Site:
    """`repository` is where backups are made, `copies` get what is there; `catalogue` is a file, `locks` a directory.

    `temporary` is for restore tests and `restored` for restored servers; `account` can reach both. `binaries` has the
    configured directories by major version.
    """

    repository: Place
    catalogue: Path
    locks: Path
    temporary: Path
    restored: Path
    account: Account | None
    binaries: Mapping[int, Path]
    settings: BackupsSettings
    key_file: Path
    copies: tuple[Place, ...] = ()

    def installation(self, major: int) -> Installation:
        """The programs of a major version. Raises InputError when there are none."""
        return reachable(find(major, self.binaries.get(major)), self.account)

    def keyring(self) -> Keyring | None:
        """The keys that open backups; None when there is no key file. Raises InputError when it is none."""
        return keys.load(self.key_file) if self.key_file.is_file() else None

    def sealing(self) -> Keyring | None:
        """The keys that new backups are sealed with; None when they are not encrypted. Raises InputError."""
        if not self.settings.encryption:
            return None
        if not self.key_file.is_file():
            raise InputError(
                f"backups are to be encrypted, and the key file {self.key_file} is missing",
                "`atalaia backup key new` makes one; keep a copy elsewhere, for without it nothing can be restored",
            )
        return keys.load(self.key_file)


def place_of(address: str, settings: BackupsSettings) -> Place:
    """The place of a repository's address. Raises InputError."""
    if not remote(address):
        return LocalPlace(Path(address))
    return RemotePlace(address, options.of(address, settings), parse_duration(settings.patience) / 1e9)


def of(environment: Environment) -> Site:
    """The site of an environment; creates the directories for servers, not the repository."""
    account = server_account(environment.settings.runtime.account)
    servers = environment.settings.servers.values()
    settings = environment.settings.backups
    if settings.options_file:
        settings = settings.model_copy(update={"options_file": environment.resolve(settings.options_file)})
    first, *others = (place_of(address, settings) for address in environment.repositories)
    return Site(
        repository=first,
        catalogue=environment.state.backup_catalogue,
        locks=environment.state.run,
        temporary=directory(environment.state, account, "temporary"),
        restored=directory(environment.state, account, "restored"),
        account=account,
        binaries={s.version: environment.resolve(s.binaries) for s in servers if s.binaries},
        settings=settings,
        key_file=environment.backup_keys,
        copies=tuple(others),
    )
