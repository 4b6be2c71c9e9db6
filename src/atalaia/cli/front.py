"""Who is let in to the log store and how, as a person writes it, as the server takes it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from atalaia.api.connections import Patience
from atalaia.api.server import Front
from atalaia.cli.given import settings_of
from atalaia.environment.errors import InputError
from atalaia.environment.load import Environment
from atalaia.environment.serving import HttpSettings
from atalaia.environment.units import parse_duration, parse_size
from atalaia.runtime.tls import TlsFiles


def front_of(environment: Environment) -> Front:
    """That of an environment's store."""
    logs = environment.settings.logs
    tls = None
    if logs.tls.certificate is not None and logs.tls.key is not None:
        signer = environment.resolve(logs.tls.client_ca) if logs.tls.client_ca else None
        tls = TlsFiles(environment.resolve(logs.tls.certificate), environment.resolve(logs.tls.key), signer)
    return _front(environment.access_file, environment.state.own_token, tls, logs.http)


def given_front(
    access: Path | None, certificate: Path | None, key: Path | None, client_ca: Path | None, http: Sequence[str]
) -> Front:
    """That of options. Raises InputError."""
    if access is not None and not access.is_file():
        raise InputError(
            f"--access {access}: there is no such file", f"`atalaia access add NAME --all-tenants --access {access}`"
        )
    if (certificate is None) != (key is None):
        raise InputError("--tls-cert and --tls-key go together")
    if client_ca is not None and certificate is None:
        raise InputError("--tls-client-ca needs --tls-cert and --tls-key")
    tls = TlsFiles(certificate, key, client_ca) if certificate is not None and key is not None else None
    return _front(access, None, tls, parse_http(http))


def parse_http(given: Sequence[str]) -> HttpSettings:
    """What NAME=VALUE texts give, defaults for the others. Raises InputError."""
    return settings_of(HttpSettings, "--http", given, "[logs.http]", "docs/access.md")


def _front(access: Path | None, own_token: Path | None, tls: TlsFiles | None, http: HttpSettings) -> Front:
    def seconds(text: str) -> float:
        return parse_duration(text) / 1e9

    patience = Patience(
        connections=http.connections,
        head=seconds(http.header_time),
        body_idle=seconds(http.body_idle),
        body=seconds(http.body_time),
        answer_idle=seconds(http.answer_idle),
        answer=seconds(http.answer_time),
        answers=parse_size(http.answer_memory),
        keep_alive=seconds(http.keep_alive),
    )
    return Front(access, own_token, tls, patience, parse_size(http.push_rate))
