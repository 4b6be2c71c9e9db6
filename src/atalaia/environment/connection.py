"""How a log store is reached: its address, what lets us in, and what it must show to be trusted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from atalaia.environment.load import Environment
from atalaia.environment.ports import STORE


@dataclass(frozen=True, slots=True)
class Connection:
    """`base` is an address without a path. Secrets are given as such or as files, read again when they change.

    Trusted are the certificates that `ca` signed (default: the system's); with `pinned`, the first certificate of that
    file alone, whatever name it has. `certificate` and `key` are what we show. All are PEM files.
    """

    base: str
    tenant: str | None = None
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: Path | None = None
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    ca: Path | None = None
    pinned: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @property
    def host(self) -> str:
        """HOST:PORT."""
        return self.base.partition("://")[2]


def connection_of(environment: Environment, port: int | None = None) -> Connection | None:
    """How an environment's parts reach its log store; None when it has no port yet. `port`: where it listens."""
    logs = environment.settings.logs
    tls = logs.tls

    def place(path: Path | None) -> Path | None:
        return environment.resolve(path) if path is not None else None

    shown = place(tls.client_certificate), place(tls.client_key)
    if logs.url is not None:
        return Connection(
            logs.url,
            logs.tenant,
            logs.user,
            password_file=place(logs.password_file),
            token=logs.token,
            token_file=place(logs.token_file),
            ca=place(logs.ca),
            certificate=shown[0],
            key=shown[1],
        )
    port = port or environment.state.remembered().get("ports", {}).get(STORE)
    if port is None:
        return None
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(logs.listen, logs.listen)  # noqa: S104 - compared, not listened on
    scheme = "https" if tls.certificate else "http"
    return Connection(
        f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}",
        token_file=_unless_closed(environment.state.own_token),
        ca=place(logs.ca),
        # Its own certificate may have any name and any signer: the environment knows the very file.
        pinned=None if logs.ca else place(tls.certificate),
        certificate=shown[0],
        key=shown[1],
    )


def _unless_closed(path: Path) -> Path | None:
    """None for a file that exists and is another user's: they may still ask a store that asks nobody who they are."""
    try:
        with path.open("rb"):
            return path
    except PermissionError:
        return None
    except OSError:
        return path
