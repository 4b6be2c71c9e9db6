"""atalaia.toml -> Environment. All problems of a file are reported at once, each with line, value and remedy."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from atalaia.environment import backing
from atalaia.environment.alerting import AlertsSettings
from atalaia.environment.backing import BackupsSettings, remote
from atalaia.environment.errors import ConfigurationError, InputError, Problem
from atalaia.environment.locate import key_lines, line_of
from atalaia.environment.serving import AccessSettings, HttpSettings, TlsSettings
from atalaia.environment.settings import (
    CollectionSettings,
    LimitsSettings,
    LogsSettings,
    RetentionRule,
    RuntimeSettings,
    ServerSettings,
    Settings,
)
from atalaia.environment.sources import PostgresSource
from atalaia.environment.state import State

FILE_NAME = "atalaia.toml"
_SECTIONS: dict[str, type[BaseModel]] = {
    "servers": ServerSettings,
    "collection": CollectionSettings,
    "logs": LogsSettings,
    "backups": BackupsSettings,
    "runtime": RuntimeSettings,
}
_OF_POSTGRES = {
    "format": "give one of auto, jsonlog, csvlog, stderr, syslog, pgbouncer",
    "log_line_prefix": "give what `SHOW log_line_prefix` answers on that server",
    "timezone": "give what `SHOW log_timezone` answers on that server",
    "name": "give each a name of its own, such as main",
    "logs": 'give a glob, or a list of them, such as "/var/log/postgresql/*.log"',
}


@dataclass(frozen=True, slots=True)
class Environment:
    """Settings with the place they hold for: relative paths are meant from `folder`, state lies in `state`."""

    file: Path
    settings: Settings
    state: State
    lines: dict[tuple[str, ...], int]

    @property
    def folder(self) -> Path:
        """The folder that holds atalaia.toml, or would."""
        return self.file.parent

    def resolve(self, path: Path) -> Path:
        """`path` as meant from the file's folder."""
        return path if path.is_absolute() else self.folder / path

    @property
    def store_directory(self) -> Path:
        """Where the embedded log store keeps its files."""
        given = self.settings.logs.directory
        return self.resolve(given) if given else self.state.logs

    @property
    def access_file(self) -> Path:
        """Where those are kept who may ask the embedded log store; nobody is asked who they are without it."""
        given = self.settings.logs.access.file
        return self.resolve(given) if given else self.state.secrets / "access.json"

    @property
    def repositories(self) -> tuple[str, ...]:
        """Where backups are kept: folders, or addresses of object stores. The first is the one they are made in."""
        backups = self.settings.backups
        given = (backups.repository or str(self.state.backups), *backups.copies)
        return tuple(place if remote(place) else str(self.resolve(Path(place))) for place in given)

    @property
    def backup_keys(self) -> Path:
        """The file of the keys that backups are encrypted with."""
        given = self.settings.backups.key_file
        return self.resolve(given) if given else self.state.secrets / "backup.keys"

    def problem(self, path: tuple[str | int, ...], message: str, remedy: str) -> Problem:
        """A problem at the line where `path` stands."""
        return Problem(self.file, line_of(path, self.lines), message, remedy)


def find(start: Path | None = None) -> Path:
    """The atalaia.toml (or .atalaia directory) of `start` or the nearest folder above; else where one would be."""
    folder = (start or Path.cwd()).resolve()
    for candidate in (folder, *folder.parents):
        if (candidate / FILE_NAME).is_file() or (candidate / ".atalaia" / "state.json").is_file():
            return candidate / FILE_NAME
    return folder / FILE_NAME


def load(
    file: Path | None = None, check_selector: Callable[[str], None] | None = None, *, reachable: bool = True
) -> Environment:
    """The environment that `file` (default: the nearest atalaia.toml) describes; without a file, the seed's.

    `check_selector` raises ValueError for what is no selector of streams; without it they are not looked at.
    `reachable`: whether it is looked at who can reach the log store, and with which files.
    Raises ConfigurationError with every problem of the file, InputError when a named file cannot be read.
    """
    if file is not None and not file.is_file():
        raise InputError(
            f"{file} does not exist",
            "`atalaia init` writes one; without --file the seed's environment is used",
        )
    path = (file or find()).resolve()
    if not path.is_file():
        return Environment(path, Settings(), State(path.parent / ".atalaia"), {})
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read: {error}", "it must be a UTF-8 text file that you may read") from error
    settings, lines = parse(text, path, check_selector)
    environment = Environment(path, settings, State(path.parent / ".atalaia"), lines)
    if reachable and (problems := _unreachable(environment)):
        raise ConfigurationError(problems)
    return environment


def _unreachable(environment: Environment) -> list[Problem]:
    """Files that must be there, and a store that anybody could reach."""
    logs = environment.settings.logs
    files: dict[tuple[str, ...], Path | None] = {
        ("logs", name): getattr(logs, name) for name in ("password_file", "token_file", "ca")
    }
    names = ("certificate", "key", "client_ca", "client_certificate", "client_key")
    files |= {("logs", "tls", name): getattr(logs.tls, name) for name in names}
    secrets = ("password_file", "token_file", "ca")
    alerting = (*secrets, *(f"remote_write_{name}" for name in secrets))
    files |= {("logs", "alerts", name): getattr(logs.alerts, name) for name in alerting}
    problems = [
        environment.problem(path, f"{'.'.join(path)} = {str(given)!r}: there is no such file", "give its path")
        for path, given in files.items()
        if given is not None and not environment.resolve(given).is_file()
    ]
    if logs.url is None and not logs.loopback and not environment.access_file.is_file():
        problems.append(
            environment.problem(
                ("logs", "listen"),
                f"logs.listen = {logs.listen!r}: others can reach the store there, and nobody is asked who they are",
                "say first who may: `atalaia access add NAME --all-tenants`",
            )
        )
    return problems


def parse(
    text: str, path: Path, check_selector: Callable[[str], None] | None = None
) -> tuple[Settings, dict[tuple[str, ...], int]]:
    """Settings and the lines of their keys; raises ConfigurationError."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problem = Problem(
            path,
            getattr(error, "lineno", 0) or _line_in(str(error)) or len(text.splitlines()),
            f"not TOML: {error}",
            "compare with `atalaia init --print`",
        )
        raise ConfigurationError([problem]) from error
    lines = key_lines(text)
    try:
        return Settings.model_validate(data, context={"selector": check_selector}), lines
    except ValidationError as error:
        problems = [_problem(dict(item), path, lines) for item in error.errors(include_url=False)]
        raise ConfigurationError(problems) from error


def _line_in(message: str) -> int:
    _, _, after = message.rpartition("at line ")
    digits = after.split(",")[0]
    return int(digits) if digits.isdigit() else 0


def _problem(item: dict[str, Any], path: Path, lines: dict[tuple[str, ...], int]) -> Problem:
    location: tuple[str | int, ...] = item["loc"]
    line = line_of(location, lines)
    dotted = ".".join(str(part) for part in location if not isinstance(part, int) and part != "[key]")
    if location[-1] == "[key]":
        message = str(item["msg"]).removeprefix("Value error, ")
        return Problem(path, line, f"{dotted}: {message}", "choose another name, or leave it out")
    if item["type"] == "model_type":
        return Problem(path, line, f"{dotted} = {item['input']!r}: not a table", f"write [{dotted}] and its keys below")
    if item["type"] == "extra_forbidden":
        known = _known(location)
        near = difflib.get_close_matches(str(location[-1]), known, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return Problem(path, line, f"unknown key {dotted!r}", f"{hint}known here: {', '.join(known)}")
    if dotted == "runtime.kind":
        return Problem(
            path,
            line,
            f"runtime.kind = {item['input']!r} is not available",
            'use "process", which needs no Docker',
        )
    message = str(item["msg"]).removeprefix("Value error, ")
    if dotted in ("logs", "backups") and isinstance(item["input"], dict):  # it may hold a secret
        return Problem(path, line, f"{dotted}: {message}", _remedy(dotted))
    return Problem(path, line, f"{dotted} = {item['input']!r}: {message[0].lower()}{message[1:]}", _remedy(dotted))


def _known(location: tuple[str | int, ...]) -> list[str]:
    if len(location) == 1:
        return list(_SECTIONS)
    inner: dict[tuple[str | int, ...], type[BaseModel]] = {
        ("logs", "limits"): LimitsSettings,
        ("logs", "alerts"): AlertsSettings,
        ("logs", "retention"): RetentionRule,
        ("logs", "access"): AccessSettings,
        ("logs", "tls"): TlsSettings,
        ("logs", "http"): HttpSettings,
        ("collection", "postgres"): PostgresSource,
        **{("backups", name): section for name, section in backing.SECTIONS.items()},
    }
    deep = inner.get(location[:2]) if len(location) > 2 else None
    section = deep or _SECTIONS[str(location[0])]
    return list(section.model_fields)


def _remedy(dotted: str) -> str:
    section, _, last = dotted.rpartition(".")
    if section in ("logs.limits", "logs.http"):
        default = (LimitsSettings if section == "logs.limits" else HttpSettings).model_fields[last].default
        return f"give a value such as {default!r}, or leave it out for that default"
    if section == "collection.postgres" and last in _OF_POSTGRES:
        return _OF_POSTGRES[last]
    if section.split(".")[0] == "backups" and (remedy := backing.REMEDIES.get(dotted.removeprefix("backups."))):
        return remedy
    return {
        "port": "give a free port from 1 to 65535, or leave it out to take the next free one",
        "version": "give a major version such as 16, without quotes",
        "listen": 'give a list of addresses, such as ["127.0.0.1", "::1"]',
        "settings": 'give a table of PostgreSQL settings, such as { work_mem = "16MB" }',
        "targets": 'give a list of globs, such as ["/var/log/*log"]',
        "servers": "write [servers.NAME] and its keys",
        "url": 'give the address of a Loki, such as "http://127.0.0.1:3100"',
        "retention_age": "give a duration such as 30d",
        "retention_size": "give a size such as 10GiB",
        "retention": "write [[logs.retention]], and below it tenant or selector, and age or size",
        "age": "give a duration such as 30d",
        "size": "give a size such as 10GiB",
        "tenant": 'give the name of a tenant, such as "fake", which is that of pushes that name none',
        "selector": "give a selector of streams, such as '{job=\"postgres\"}'",
        "urls": 'give a list of addresses, such as ["http://127.0.0.1:9093"]',
        "remote_write": 'give an address, such as "http://127.0.0.1:9090/api/v1/write"',
        "rules": 'give a glob of rule files, or a list of them, such as "rules/*.yaml"',
        "max_line_size": "give a size such as 256KiB",
        "redact": 'give "literals" or "none"',
        "postgres": "write [[collection.postgres]], and below it name and logs",
    }.get(last, "correct the value, or leave the key out for its default")
