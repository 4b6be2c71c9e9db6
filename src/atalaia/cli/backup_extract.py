"""backup extract: a backup in clear, for PostgreSQL's own programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from atalaia.cli.common import FileOption, JsonOption, print_json


def add(group: typer.Typer) -> None:
    """Add this module's command to the group `backup`."""
    group.command("extract")(extract)


def extract(
    backup: Annotated[str, typer.Argument(help="Which backup, as `backup list` names it.")],
    directory: Annotated[Path, typer.Argument(help="A new directory for it.")],
    as_json: JsonOption = False,
    file: FileOption = None,
) -> None:
    """Write a backup out in clear.

    As files that pg_restore and psql restore without Atalaia. They hold all data and password verifiers.
    """
    from atalaia.backup import catalogue, site
    from atalaia.backup import extract as extracting
    from atalaia.cli.backups import prepare
    from atalaia.cli.telling import Teller

    place = site.of(prepare(file))
    with Teller() as tell:
        done = extracting.extract(place, catalogue.get(place.catalogue, backup), directory.resolve(), tell)
    if as_json:
        print_json({"backup": backup, "directory": str(directory.resolve())} | asdict(done))
        return
    print(f"wrote {done.files} files of {done.size} bytes to {directory}")
    for command in done.commands:
        print(f"  {command}")
