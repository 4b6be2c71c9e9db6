"""The command `atalaia`: gathers the command groups and turns errors into one message and an exit code."""

from __future__ import annotations

import os
import sys

import typer
import typer.exceptions

from atalaia import __version__
from atalaia.cli import (
    access,
    backups,
    collect,
    environment,
    explain,
    fields,
    import_,
    logs,
    patterns,
    query,
    rules,
    services,
    store,
)
from atalaia.environment.errors import AtalaiaError

app = typer.Typer(
    name="atalaia",
    help="PostgreSQL servers, their logs in one searchable store, backups proven to restore.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)
for group in (
    environment,
    logs,
    query,
    patterns,
    fields,
    backups,
    explain,
    services,
    collect,
    import_,
    store,
    rules,
    access,
):
    group.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"atalaia {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """PostgreSQL servers, their logs in one searchable store, backups proven to restore."""


def run() -> None:
    """Run the command line. Exit codes: 0 good, 1 failed, 2 wrong input, 130 interrupted."""
    sys.exit(_run())


def _run() -> int:
    try:
        result = app(standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except typer.exceptions.TyperException as error:
        # Usage errors know how to show themselves, with the command's usage.
        show = getattr(error, "show", None)
        show(sys.stderr) if show else print(f"atalaia: {error}", file=sys.stderr)
        return 2
    except AtalaiaError as error:
        print(f"atalaia: {error}", file=sys.stderr)
        return error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has seen enough (`atalaia logs | head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if os.environ.get("ATALAIA_DEBUG"):
            raise
        print(f"atalaia: internal error, please report it: {type(error).__name__}: {error}", file=sys.stderr)
        print("  ATALAIA_DEBUG=1 shows where it happened", file=sys.stderr)
        return 1
