"""What lets a client in and through: secrets, OAuth 2, TLS and proxies of one output, as promtail.yaml states them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from atalaia.environment.errors import InputError


@dataclass(frozen=True, slots=True)
class Secret:
    """A text given as such or as a file, which is read again when it changes."""

    text: str | None = field(default=None, repr=False)
    file: Path | None = None

    def read(self) -> str:
        """The text. Raises InputError when the file cannot be read."""
        if self.file is None:
            return self.text or ""
        try:
            return self.file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            remedy = "name a file that the collector may read"
            raise InputError(f"{self.file} cannot be read: {error}", remedy) from error


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files; `authority` is PEM text in place of `ca`. `server_name` stands for the address's own.

    `insecure`: the server's certificate is not verified.
    """

    ca: Path | None = None
    authority: str | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str | None = None
    insecure: bool = False
    min_version: str | None = None

    @property
    def files(self) -> tuple[Path | None, ...]:
        """Those that may change."""
        return self.ca, self.certificate, self.key


@dataclass(frozen=True, slots=True)
class Proxy:
    """`url` with its own user:password, or what the environment (HTTPS_PROXY, NO_PROXY …) says; `without`: NO_PROXY."""

    url: str | None = None
    from_environment: bool = False
    without: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OAuth2:
    """Client credentials (RFC 6749, 4.4)."""

    client_id: str
    secret: Secret
    token_url: str
    scopes: tuple[str, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    tls: Tls = field(default_factory=Tls)
    proxy: Proxy = field(default_factory=Proxy)


@dataclass(frozen=True, slots=True)
class Access:
    """With `user`, `secret` is its password; else it stands behind `scheme` in the Authorization header."""

    user: Secret | None = None
    secret: Secret | None = None
    scheme: str = "Bearer"
    oauth2: OAuth2 | None = None
    tls: Tls = field(default_factory=Tls)
    proxy: Proxy = field(default_factory=Proxy)
    follow_redirects: bool = True
