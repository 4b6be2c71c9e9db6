"""rules, alerts: rule files checked, what is evaluated, and what is wrong now."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from atalaia.cli.common import FileOption, JsonOption, command_name, console, environment_of, print_json, table
from atalaia.cli.connection import TenantOption, UrlOption
from atalaia.environment.errors import ConfigurationError, InputError

_COLOURS = {"firing": "bold red", "pending": "yellow", "err": "red"}


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(no_args_is_help=True, help="Alerting and recording rules over LogQL: check, list, begin with.")
    for command in (check, list_, example):
        group.command(command.__name__.rstrip("_"))(command)
    app.add_typer(group, name="rules")
    app.command()(alerts)


def check(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Rule files (default: the environment's).", show_default=False)
    ] = None,
    file: FileOption = None,
) -> None:
    """Check rule files.

    All mistakes are told, each with file and line. Exit code 2 when there are any. Nothing needs to run.
    """
    from atalaia.rules.reading import read_files

    named = files or _configured(file)
    if not named:
        raise InputError("there is no rule file to check", "name one, or set [logs] rules in atalaia.toml")
    try:
        found = read_files(list(dict.fromkeys(named)))
    except ConfigurationError as error:
        for problem in error.problems:
            print(f"{problem.file}:{problem.line}: {problem.message}\n    {problem.remedy}", file=sys.stderr)
        raise typer.Exit(2) from None
    for path, groups in found.items():
        rules = [rule for group in groups for rule in group.rules]
        records = sum(rule.records for rule in rules)
        counts = f"{len(groups)} groups, {len(rules) - records} alerting and {records} recording rules"
        print(f"{path} is good: {counts}")


def _configured(file: Path | None) -> list[Path]:
    from atalaia.cli.ruling import plan_of
    from atalaia.rules.files import rule_files

    return rule_files(plan_of(environment_of(file)).files)


def _asked(path: str, url: str | None, tenant: str | None, file: Path | None) -> Any:
    from atalaia.cli.connection import connection_of
    from atalaia.client.loki import LokiClient

    with contextlib.closing(LokiClient(connection_of(environment_of(file), url, tenant=tenant))) as client:
        return client.get(path, {})


def list_(
    url: UrlOption = None, tenant: TenantOption = None, as_json: JsonOption = False, file: FileOption = None
) -> None:
    """Show the rules that are evaluated, and how they are."""
    groups = _asked("/prometheus/api/v1/rules", url, tenant, file)["groups"]
    if as_json:
        print_json(groups)
        return
    rows = [_row(group, rule) for group in groups for rule in group["rules"]]
    if not rows:
        print(f"there are no rules; `{command_name()} rules example` prints some to begin with", file=sys.stderr)
        return
    console().print(table(["STATE", "HEALTH", "RULE", "GROUP", "FILE", "LAST EVALUATED", "ERROR"], rows))


def _row(group: Any, rule: Any) -> list[str]:
    moment = rule["lastEvaluation"][:19].replace("T", " ")
    return [
        _coloured(rule.get("state", "recording")),
        _coloured(rule["health"]),
        escape(rule["name"]),
        escape(group["name"]),
        escape(group["file"]),
        moment if rule["health"] != "unknown" else "-",
        escape(rule.get("lastError", "").partition("\n")[0]),
    ]


def example() -> None:
    """Print rules for PostgreSQL to begin with."""
    from importlib import resources

    print(resources.files("atalaia.rules").joinpath("postgres.yaml").read_text(encoding="utf-8"), end="")


def alerts(
    url: UrlOption = None, tenant: TenantOption = None, as_json: JsonOption = False, file: FileOption = None
) -> None:
    """Show the alerts that are pending or firing now.

    What was is in the log store: atalaia query '{job="atalaia", event="alert"}'.
    """
    found = _asked("/prometheus/api/v1/alerts", url, tenant, file)["alerts"]
    if as_json:
        print_json(found)
        return
    if not found:
        print("nothing is pending or firing", file=sys.stderr)
        return
    found.sort(key=lambda one: (one["state"], one["activeAt"]))
    rows = [
        [
            _coloured(one["state"]),
            escape(one["labels"].get("alertname", "")),
            one["activeAt"][:19].replace("T", " "),
            escape(", ".join(f"{name}={value}" for name, value in one["labels"].items() if name != "alertname")),
            escape(one["annotations"].get("summary", "")),
        ]
        for one in found
    ]
    console().print(table(["STATE", "ALERT", "SINCE", "LABELS", "SUMMARY"], rows))


def _coloured(word: str) -> str:
    return f"[{_COLOURS[word]}]{word}[/]" if word in _COLOURS else word
