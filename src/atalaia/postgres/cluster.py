"""The object that stands for one server; the other modules of this folder are functions of it."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from atalaia.environment import secrets
from atalaia.environment.backing import BackupsSettings
from atalaia.environment.load import Environment
from atalaia.environment.settings import ServerSettings
from atalaia.postgres.binaries import Installation, find
from atalaia.postgres.places import directory, reachable
from atalaia.runtime.accounts import Account, server_account

SUPERUSER = "postgres"
SUMMARIES = 17
"""The first major version that takes incremental base backups (summarize_wal)."""
Setting = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Cluster:
    """One server: `directory` has data/, log/ and stderr.log; `settings` are the user's.

    With `socket` it is a private server: it listens on no address, only on a socket in that directory, where
    our own operating-system user is the superuser (peer authentication) and nobody else may connect.
    """

    name: str
    directory: Path
    port: int
    listen: tuple[str, ...]
    installation: Installation
    account: Account | None
    settings: Mapping[str, Setting]
    password_file: Path
    socket: Path | None = None

    @property
    def data(self) -> Path:
        """PostgreSQL's data directory."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        """Where the server writes its log files."""
        return self.directory / "log"

    @property
    def stderr(self) -> Path:
        """What the server says before its logging collector runs, and what that one says itself."""
        return self.directory / "stderr.log"

    @property
    def host(self) -> str:
        """Where to connect to: the first listen address (loopback for "all"), or the socket's directory."""
        if self.socket:
            return str(self.socket)
        first = self.listen[0]
        if first == "*":
            return "127.0.0.1"
        address = ipaddress.ip_address(first)
        if address.is_unspecified:
            return "127.0.0.1" if address.version == 4 else "::1"
        return str(address)


def of(environment: Environment, name: str, port: int) -> Cluster:
    """The server `name` of an environment on `port`.

    Creates what is missing around it: the servers' directory, the password, a copy of the binaries where the
    account cannot execute the wheel's. Raises InputError for an unknown name or missing binaries,
    AtalaiaError from places.
    """
    server = environment.settings.servers[name]
    account = server_account(environment.settings.runtime.account)
    configured = environment.resolve(server.binaries) if server.binaries else None
    installation = reachable(find(server.version, configured), account)
    servers = directory(environment.state, account, "servers")
    secrets.password(environment.state, name)
    return Cluster(
        name=name,
        directory=(servers / name),
        port=port,
        listen=server.listen,
        installation=installation,
        account=account,
        settings=_settings(server, environment.settings.backups),
        password_file=secrets.password_file(environment.state, name),
    )


def _settings(server: ServerSettings, backups: BackupsSettings) -> Mapping[str, Setting]:
    """The user's settings; where incremental backups are scheduled, WAL is summarised unless they say otherwise."""
    if backups.schedule.incremental and server.version >= SUMMARIES:
        return {"summarize_wal": True, **server.settings}
    return server.settings
