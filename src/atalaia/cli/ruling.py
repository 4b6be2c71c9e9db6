"""Rules as a person configures them, as the ruler takes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from atalaia.environment.alerting import AlertsSettings
from atalaia.environment.connection import Connection
from atalaia.environment.errors import ConfigurationError, InputError
from atalaia.environment.load import Environment
from atalaia.rules.files import rule_files
from atalaia.rules.plan import Plan
from atalaia.rules.reading import read_files


def plan_of(environment: Environment) -> Plan:
    """What [logs] and [logs.alerts] say."""
    files = tuple(str(environment.resolve(Path(pattern))) for pattern in environment.settings.logs.rules)
    return _plan(files, environment.settings.logs.alerts, environment)


def plan_of_options(files: Sequence[str], alertmanagers: Sequence[str], remote_write: str | None) -> Plan:
    """What the options of `serve` say. Raises InputError, ConfigurationError for files with mistakes."""
    try:
        settings = AlertsSettings.model_validate({"urls": tuple(alertmanagers), "remote_write": remote_write})
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        option = "--remote-write" if wrong["loc"][0] == "remote_write" else "--alertmanager"
        raise InputError(f"{option}: {str(wrong['msg']).removeprefix('Value error, ')}") from error
    check_files(files)
    return _plan(tuple(files), settings, None)


def check_files(patterns: Sequence[str]) -> None:
    """Raises ConfigurationError with every mistake of all rule files, InputError where a glob matches none."""
    for pattern in patterns:
        if not rule_files([pattern]):
            raise InputError(f"no rule file matches {pattern!r}", "`atalaia rules example` prints one to begin with")
    read_files(rule_files(patterns))


def check_environment(environment: Environment) -> None:
    """Raises ConfigurationError for mistakes in the environment's rule files; files may be added later."""
    if environment.settings.logs.url is not None:
        message = "logs.rules: rules are for the embedded store, and there is a url"
        raise ConfigurationError([environment.problem(("logs", "rules"), message, "give them to the Loki there")])
    try:
        read_files(rule_files(plan_of(environment).files))
    except ConfigurationError as error:
        raise ConfigurationError(error.problems) from error


def _plan(files: tuple[str, ...], alerts: AlertsSettings, environment: Environment | None) -> Plan:
    def place(path: Path | None) -> Path | None:
        return environment.resolve(path) if environment and path else path

    def receiver(url: str, prefix: str) -> Connection:
        def given(name: str) -> Path | None:
            return place(getattr(alerts, f"{prefix}{name}"))

        return Connection(
            url,
            user=getattr(alerts, f"{prefix}user"),
            password_file=given("password_file"),
            token_file=given("token_file"),
            ca=given("ca"),
        )

    return Plan(
        files,
        tuple(receiver(url, "") for url in alerts.urls),
        receiver(alerts.remote_write, "remote_write_") if alerts.remote_write else None,
        alerts.labels,
        alerts.external_url or "",
    )
