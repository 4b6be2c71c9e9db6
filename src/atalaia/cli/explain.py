"""diagnose and runbook: what the logs say, and the document of the environment."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from atalaia.cli.common import FileOption, JsonOption, command_name, environment_of, print_json
from atalaia.cli.connection import client_of
from atalaia.cli.logs import span
from atalaia.environment.errors import InputError


class Language(StrEnum):
    """The languages of texts for people."""

    ENGLISH = "en"
    PORTUGUESE = "pt-BR"


LanguageOption = Annotated[Language, typer.Option("--language", "-l", help="Language of the text.")]


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(diagnose)
    app.command()(runbook)


def diagnose(
    servers: Annotated[list[str] | None, typer.Argument(help="Servers (default: all).", show_default=False)] = None,
    since: Annotated[str, typer.Option(help="How far back.")] = "24h",
    language: LanguageOption = Language.ENGLISH,
    url: Annotated[
        str | None, typer.Option(help="Read this Loki instead of the environment's store.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    file: FileOption = None,
) -> None:
    """Explain what the servers' logs say.

    What happened, to whom, since when, why, and what to change.
    """
    from atalaia.diagnosis.diagnose import diagnose
    from atalaia.diagnosis.render import render_text, to_json

    environment = environment_of(file)
    known = environment.settings.servers
    for server in servers or ():
        if server not in known and not url:
            raise InputError(f"there is no server {server!r}", f"there are: {', '.join(known)}")
    start, end = span(since, None, None)
    chosen = tuple(servers) if servers else None if url else tuple(known)
    ports = environment.state.remembered().get("ports", {})
    found = diagnose(
        client_of(environment, url), start=start, end=end, servers=chosen, language=language.value, port_of=ports
    )
    if as_json:
        print_json(to_json(found))
    else:
        print(render_text(found), end="")


def runbook(
    language: LanguageOption = Language.PORTUGUESE,
    since: Annotated[str, typer.Option(help="How far back problems are told.")] = "7d",
    file: FileOption = None,
) -> None:
    """Write the environment's document anew.

    Markdown, from what runs: how to rebuild it, services, versions, ports, backups, problems seen.
    """
    from atalaia.runbook.gather import gather
    from atalaia.runbook.write import write
    from atalaia.supervisor.layout import recall

    environment = environment_of(file)
    start, end = span(since, None, None)
    layout = recall(environment)
    if layout is None:
        raise InputError(
            "this environment was never started", f"run `{command_name()} up`; the document tells what runs"
        )
    print(write(gather(environment, layout, language.value, end - start, "atalaia"), language.value), end="")
