"""Which log store a command asks: by its options, by logcli's environment variables, or the environment's own.

Options count before variables, variables before atalaia.toml. The environment's own credentials go to its own store
alone, never to an address given otherwise.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atalaia.cli.common import command_name
from atalaia.environment.connection import Connection
from atalaia.environment.connection import connection_of as connection_of_environment
from atalaia.environment.errors import InputError
from atalaia.environment.load import Environment

if TYPE_CHECKING:
    from atalaia.client.loki import LokiClient

UrlOption = Annotated[
    str | None,
    typer.Option(help="Ask this Loki instead of the environment's store [LOKI_ADDR].", show_default=False),
]
TenantOption = Annotated[
    str | None, typer.Option(help="Whose entries; 'a|b' reads several [LOKI_ORG_ID].", show_default=False)
]
UserOption = Annotated[
    str | None,
    typer.Option(help="Basic authentication [LOKI_USERNAME, LOKI_PASSWORD].", show_default=False),
]
PasswordFileOption = Annotated[
    Path | None, typer.Option(help="File with the user's password [LOKI_PASSWORD_FILE].", show_default=False)
]
TokenFileOption = Annotated[
    Path | None,
    typer.Option(help="File with a bearer token [LOKI_BEARER_TOKEN, LOKI_BEARER_TOKEN_FILE].", show_default=False),
]
CaOption = Annotated[
    Path | None,
    typer.Option(help="PEM file of the signers to trust [LOKI_CA_CERT_PATH].", show_default=False),
]


def client_of(environment: Environment, url: str | None = None) -> LokiClient:
    """A client of the environment's log store, or of the server at `url`, as the variables let us in there."""
    from atalaia.client.loki import LokiClient

    return LokiClient(connection_of(environment, url))


def connection_of(
    environment: Environment,
    url: str | None = None,
    *,
    tenant: str | None = None,
    user: str | None = None,
    password_file: Path | None = None,
    token_file: Path | None = None,
    ca: Path | None = None,
    variables: Mapping[str, str] | None = None,
    address: bool = False,
) -> Connection:
    """How to reach what a command asks. `address`: whether LOKI_ADDR counts, as for `atalaia query`.

    `variables`: default os.environ. Raises InputError.
    """
    given = os.environ if variables is None else variables
    if not url and address:
        url = given.get("LOKI_ADDR")
    tenant = tenant or (given.get("LOKI_ORG_ID") if url or address else None)
    for name, path in (("--password-file", password_file), ("--token-file", token_file), ("--ca", ca)):
        if path is not None and not path.is_file():
            raise InputError(f"{name} {path}: there is no such file")
    if user is not None and token_file is not None:
        raise InputError("--user and --token-file do not go together", "give one of them")
    if password_file is not None and user is None and not given.get("LOKI_USERNAME"):
        raise InputError("--password-file without --user")
    found = _elsewhere(url, given) if url else connection_of_environment(environment)
    if found is None:
        raise InputError("this environment was never started", f"run `{command_name()} up`, or give --url")
    if user is not None:
        password = None if password_file else given.get("LOKI_PASSWORD")
        found = replace(found, user=user, password=password, password_file=password_file, token=None, token_file=None)
    elif password_file is not None:
        found = replace(found, password=None, password_file=password_file)
    elif token_file is not None:
        found = replace(found, token=None, token_file=token_file, user=None, password=None, password_file=None)
    if ca is not None:
        found = replace(found, ca=ca, pinned=None)
    return replace(found, tenant=tenant) if tenant else found


def _elsewhere(url: str, given: Mapping[str, str]) -> Connection:
    if not re.match(r"https?://[^/\s]+", url):
        raise InputError(f"--url {url!r} is not an address such as http://127.0.0.1:3100")
    if given.get("LOKI_TLS_SKIP_VERIFY", "").lower() in ("1", "true"):
        raise InputError(
            "LOKI_TLS_SKIP_VERIFY is set: a server that nobody vouches for is not asked",
            "name who signed its certificate: --ca FILE, or LOKI_CA_CERT_PATH",
        )

    def path(name: str) -> Path | None:
        found = given.get(name)
        if found and not Path(found).is_file():
            raise InputError(f"{name}={found}: there is no such file")
        return Path(found) if found else None

    certificate, key = path("LOKI_CLIENT_CERT_PATH"), path("LOKI_CLIENT_KEY_PATH")
    if (certificate is None) != (key is None):
        raise InputError("LOKI_CLIENT_CERT_PATH and LOKI_CLIENT_KEY_PATH go together")
    return Connection(
        url.rstrip("/"),
        user=given.get("LOKI_USERNAME") or None,
        password=given.get("LOKI_PASSWORD"),
        password_file=path("LOKI_PASSWORD_FILE"),
        token=given.get("LOKI_BEARER_TOKEN") or None,
        token_file=path("LOKI_BEARER_TOKEN_FILE"),
        ca=path("LOKI_CA_CERT_PATH"),
        certificate=certificate,
        key=key,
    )
