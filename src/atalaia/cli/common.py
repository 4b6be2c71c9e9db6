"""What the command groups share: the option that names the file, output for terminals and for programs."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from atalaia.environment.load import Environment, load

FileOption = Annotated[
    Path | None,
    typer.Option("--file", "-C", help="The atalaia.toml to use (default: the nearest one).", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def environment_of(file: Path | None, rules: bool = False) -> Environment:
    """The environment that a command works on. Raises ConfigurationError for what is wrong with its file.

    `rules`: also for what is wrong with its rule files.
    """
    environment = load(file, _check_selector)
    if rules and environment.settings.logs.rules:
        from atalaia.cli.ruling import check_environment

        check_environment(environment)
    return environment


def unwritten(file: Path) -> Environment:
    """The environment of a folder that has no atalaia.toml."""
    from atalaia.environment.settings import Settings
    from atalaia.environment.state import State

    return Environment(file, Settings(), State(file.parent / ".atalaia"), {})


def _check_selector(text: str) -> None:
    from atalaia.cli.retention import check_selector

    check_selector(text)


def console(stderr: bool = False) -> Console:
    """A Rich console that neither wraps nor colours what a program reads."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 10_000
    return Console(file=stream, width=width, soft_wrap=True, highlight=False)


def print_json(data: Any) -> None:
    """One JSON document."""
    print(json.dumps(data, indent=2, ensure_ascii=False, default=str))


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A plain table without lines."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns:
        made.add_column(column, no_wrap=True)
    for row in rows:
        made.add_row(*row)
    return made


def show_time(ns: int) -> str:
    """A moment for people: UTC, with milliseconds."""
    moment = datetime.fromtimestamp(ns // 10**9, UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{ns // 10**6 % 1000:03d}"


def command_name() -> str:
    """How the user can call us: by name, or by the path that was used."""
    if shutil.which("atalaia"):
        return "atalaia"
    called = Path(sys.argv[0])
    try:
        return str(called.resolve().relative_to(Path.cwd()))
    except ValueError:
        return str(called) if called.name == "atalaia" else "atalaia"
