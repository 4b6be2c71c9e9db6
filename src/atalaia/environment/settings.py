"""The typed form of atalaia.toml. Defaults are the seed's environment: two PostgreSQL 16 servers."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    field_validator,
    model_validator,
)

from atalaia.environment.alerting import AlertsSettings, Texts
from atalaia.environment.backing import BackupsSettings
from atalaia.environment.section import DurationText, SizeText
from atalaia.environment.section import Section as _Section
from atalaia.environment.section import between as _between
from atalaia.environment.section import size_between as _size_between
from atalaia.environment.serving import AccessSettings, HttpSettings, TlsSettings
from atalaia.environment.sources import PostgresSource, Redaction
from atalaia.environment.units import parse_duration

_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

# Atalaia decides these itself, because collection, adoption or diagnosis depend on them.
MANAGED_SETTINGS = {
    "port": "set `port` of the server instead",
    "listen_addresses": "set `listen` of the server instead",
    "data_directory": "data directories live below .atalaia/servers",
    "hba_file": "pg_hba.conf lies in the data directory",
    "log_destination": "the collector reads jsonlog",
    "logging_collector": "the collector reads the files that it writes",
    "log_directory": "the collector reads from .atalaia/servers/NAME/log",
    "log_filename": "the collector finds the files by it",
    "log_timezone": "times are stored in UTC",
    "log_line_prefix": "messages that precede the log collector are read by it",
    "password_encryption": "passwords are SCRAM",
    "unix_socket_directories": "servers are reached over TCP",
}


def _address(text: str) -> str:
    if text != "*":
        try:
            ipaddress.ip_address(text)
        except ValueError:
            raise ValueError(f'{text!r} is not an IP address (or "*" for all)') from None
    return text


def _server_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} is not a server name: lower-case letters, digits and _, a letter first")
    return name


def _setting_name(name: str) -> str:
    if name.lower() in MANAGED_SETTINGS:
        raise ValueError(f"{name!r} is managed by Atalaia: {MANAGED_SETTINGS[name.lower()]}")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_$.]*", name):
        raise ValueError(f"{name!r} is not the name of a PostgreSQL setting")
    return name


def _one_message(value: object, validate: ValidatorFunctionWrapHandler) -> object:
    try:
        return validate(value)
    except ValidationError:
        # A union would complain once for each of its members.
        raise ValueError("a setting is a text, a number, true or false") from None


Address = Annotated[str, AfterValidator(_address)]
SettingName = Annotated[str, AfterValidator(_setting_name)]
SettingValue = Annotated[str | int | float | bool, WrapValidator(_one_message)]
ServerName = Annotated[str, AfterValidator(_server_name)]
Port = Annotated[int, Field(ge=1, le=65535, strict=True)]


class ServerSettings(_Section):
    """`[servers.NAME]`: one PostgreSQL server. Without `port` it takes the next free one from 5432 and keeps it."""

    version: Annotated[int, Field(ge=15, le=30, strict=True)] = 16
    port: Port | None = None
    listen: tuple[Address, ...] = ("127.0.0.1", "::1")
    settings: dict[SettingName, SettingValue] = Field(default_factory=dict)
    binaries: Path | None = None

    @field_validator("listen")
    @classmethod
    def _addresses(cls, listen: tuple[str, ...]) -> tuple[str, ...]:
        if not listen:
            raise ValueError('an empty list: name at least one address, such as "127.0.0.1"')
        return listen


class CollectionSettings(_Section):
    """`[collection]`: which files are read besides the servers' own logs."""

    targets: tuple[str, ...] = ("/var/log/*log",)
    promtail: Path | None = None
    max_line_size: Annotated[str, _size_between("128 B", "1 MiB")] = "256KiB"
    redact: Redaction = "none"
    postgres: tuple[PostgresSource, ...] = ()

    @field_validator("postgres")
    @classmethod
    def _named_once(cls, postgres: tuple[PostgresSource, ...]) -> tuple[PostgresSource, ...]:
        names = [source.name for source in postgres]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two servers are called {min(twice)!r}")
        return postgres


class LimitsSettings(_Section):
    """`[logs.limits]`: what the embedded store takes and spends (docs/limits.md)."""

    labels: Annotated[int, Field(ge=1, le=1000, strict=True)] = 30
    label_name_size: Annotated[str, _size_between("1 B", "64 KiB")] = "1KiB"
    label_value_size: Annotated[str, _size_between("1 B", "64 KiB")] = "2KiB"
    line_size: Annotated[str, _size_between("128 B", "64 MiB")] = "1MiB"
    metadata_size: Annotated[str, _size_between("1 B", "64 MiB")] = "64KiB"
    metadata_keys: Annotated[int, Field(ge=1, le=100_000, strict=True)] = 128
    clock_ahead: Annotated[str, _between(parse_duration, "1s", "100y")] = "24h"
    memory_table: Annotated[str, _size_between("64 KiB", "1 GiB")] = "48MiB"
    query_memory: Annotated[str, _size_between("16 MiB", "1000 TiB")] = "1GiB"
    query_time: Annotated[str, _between(parse_duration, "10ms", "1d")] = "60s"
    queries_running: Annotated[int, Field(ge=0, le=1000, strict=True)] = 0
    queries_waiting: Annotated[int, Field(ge=1, le=1_000_000, strict=True)] = 10_000
    query_wait: Annotated[str, _between(parse_duration, "10ms", "1d")] = "10m"
    answer_size: Annotated[str, _size_between("1 MiB", "1000 TiB")] = "128MiB"
    disk_floor: Annotated[str, _size_between("0", "1000 TiB")] = "256MiB"


class RetentionRule(_Section):
    """`[[logs.retention]]`: bounds of one tenant's, or one selector's, streams; the first rule for a stream counts."""

    tenant: Annotated[str, Field(min_length=1, max_length=150)] | None = None
    selector: str | None = None
    age: DurationText | None = None
    size: SizeText | None = None

    @field_validator("selector")
    @classmethod
    def _selector(cls, selector: str | None, info: ValidationInfo) -> str | None:
        # What a selector is, is not known here: whoever validates brings a check that raises ValueError.
        check = (info.context or {}).get("selector")
        if selector is not None and check is not None:
            check(selector)
        return selector

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.age is None and self.size is None:
            raise ValueError("neither an age nor a size")
        return self


class LogsSettings(_Section):
    """`[logs]`: the embedded store, or the `url` of a Loki to use in its place, and how that lets us in."""

    directory: Path | None = None
    port: Port | None = None
    listen: str = "127.0.0.1"
    retention_age: DurationText | None = None
    retention_size: SizeText | None = "10GiB"
    retention: tuple[RetentionRule, ...] = ()
    url: str | None = None
    tenant: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    user: str | None = None
    password_file: Path | None = None
    token: str | None = None
    token_file: Path | None = None
    ca: Path | None = None
    limits: LimitsSettings = LimitsSettings()
    rules: Texts = ()
    alerts: AlertsSettings = AlertsSettings()
    access: AccessSettings = AccessSettings()
    tls: TlsSettings = TlsSettings()
    http: HttpSettings = HttpSettings()

    @field_validator("listen")
    @classmethod
    def _ip(cls, listen: str) -> str:
        try:
            ipaddress.ip_address(listen)
        except ValueError:
            raise ValueError(f"{listen!r} is not an IP address") from None
        return listen

    @field_validator("url")
    @classmethod
    def _http(cls, url: str | None) -> str | None:
        if url is not None and not re.match(r"https?://[^/\s]+", url):
            raise ValueError(f'{url!r} is not an address such as "https://loki.example:3100"')
        return url.rstrip("/") if url else url

    @model_validator(mode="after")
    def _credentials(self) -> Self:
        given = [name for name in ("tenant", "user", "password_file", "token", "token_file") if getattr(self, name)]
        if given and self.url is None:
            raise ValueError(f"{given[0]} is for a Loki elsewhere, and there is no url")
        if (self.user is None) != (self.password_file is None):
            raise ValueError("user and password_file go together")
        if sum(value is not None for value in (self.user, self.token, self.token_file)) > 1:
            raise ValueError("give one of user, token and token_file")
        return self

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the embedded store."""
        return ipaddress.ip_address(self.listen).is_loopback


class RuntimeSettings(_Section):
    """`[runtime]`: what starts the services. As root, servers run under `account` (default: postgres, or nobody)."""

    kind: Literal["process"] = "process"
    account: str | None = None


class Settings(_Section):
    """The whole of atalaia.toml."""

    servers: dict[ServerName, ServerSettings] = Field(
        default_factory=lambda: {"postgres_a": ServerSettings(), "postgres_b": ServerSettings()}
    )
    collection: CollectionSettings = CollectionSettings()
    logs: LogsSettings = LogsSettings()
    backups: BackupsSettings = BackupsSettings()
    runtime: RuntimeSettings = RuntimeSettings()
