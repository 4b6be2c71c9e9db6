"""Who may reach the log store, and how: the sections `[logs.access]`, `[logs.tls]`, `[logs.http]` of atalaia.toml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from atalaia.environment.section import Section, between, size_between
from atalaia.environment.units import parse_duration


class AccessSettings(Section):
    """`[logs.access]`: the file of those who may ask (docs/access.md); default: .atalaia/secrets/access.json."""

    file: Path | None = None


class TlsSettings(Section):
    """`[logs.tls]`: PEM files. The client's pair is what Atalaia's own parts show where certificates are asked for."""

    certificate: Path | None = None
    key: Path | None = None
    client_ca: Path | None = None
    client_certificate: Path | None = None
    client_key: Path | None = None

    @model_validator(mode="after")
    def _pairs(self) -> Self:
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key go together")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key go together")
        if self.client_ca is not None and self.certificate is None:
            raise ValueError("client_ca needs certificate and key, too")
        if self.client_ca is not None and self.client_certificate is None:
            raise ValueError("with client_ca, Atalaia's own parts need client_certificate and client_key, too")
        return self


class HttpSettings(Section):
    """`[logs.http]`: how long the embedded store waits for slow clients (docs/access.md)."""

    connections: Annotated[int, Field(ge=8, le=100_000, strict=True)] = 2000
    header_time: Annotated[str, between(parse_duration, "100ms", "1h")] = "10s"
    body_idle: Annotated[str, between(parse_duration, "100ms", "1h")] = "30s"
    body_time: Annotated[str, between(parse_duration, "100ms", "1d")] = "10m"
    answer_idle: Annotated[str, between(parse_duration, "100ms", "1h")] = "60s"
    answer_time: Annotated[str, between(parse_duration, "100ms", "1d")] = "30m"
    answer_memory: Annotated[str, size_between("1 MiB", "1 TiB")] = "256MiB"
    keep_alive: Annotated[str, between(parse_duration, "100ms", "1d")] = "75s"
    push_rate: Annotated[str, size_between("0", "1 TiB")] = "0"
