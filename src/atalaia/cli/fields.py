"""fields: what parsers would find in lines."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from atalaia.cli.common import FileOption, JsonOption, console, environment_of, print_json, table
from atalaia.cli.connection import (
    CaOption,
    PasswordFileOption,
    TenantOption,
    TokenFileOption,
    UrlOption,
    UserOption,
    connection_of,
)
from atalaia.cli.logs import note, span


def register(app: typer.Typer) -> None:
    """Add this group's command."""
    app.command()(fields)


def fields(
    logql: Annotated[str, typer.Argument(metavar="SELECTOR", help="Streams; stages may follow.")],
    since: Annotated[str, typer.Option(help="How far back.")] = "1h",
    start: Annotated[
        str | None, typer.Option("--from", help="Begin: RFC 3339, or seconds or ns since 1970.", show_default=False)
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included.", show_default=False)] = None,
    lines: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the newest lines are looked at.")] = 1000,
    values: Annotated[str | None, typer.Option(help="The values of this field.", show_default=False)] = None,
    as_json: JsonOption = False,
    url: UrlOption = None,
    tenant: TenantOption = None,
    user: UserOption = None,
    password_file: PasswordFileOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    file: FileOption = None,
) -> None:
    """Show which fields the newest lines have, and which parser finds them.

    Structured metadata needs no parser: a query can name it at once.
    """
    first, last = span(since, start, end)
    connection = connection_of(
        environment_of(file), url, tenant=tenant, user=user, password_file=password_file, token_file=token_file,
        ca=ca, address=True,
    )  # fmt: skip
    from urllib.parse import quote

    from atalaia.client.loki import LokiClient

    parameters = {"query": logql, "start": first, "end": last, "line_limit": lines}
    path = "detected_fields" if values is None else f"detected_field/{quote(values, safe='')}/values"
    with closing(LokiClient(connection)) as client:
        answer = client.bare(f"/loki/api/v1/{path}", parameters)
    found = answer.get("fields" if values is None else "values") or []
    if as_json:
        print_json(found)
    elif values is not None:
        print("".join(f"{value}\n" for value in found), end="")
    elif found:
        rows = [
            [one["label"], one["type"], f"{one['cardinality']:,}", ", ".join(one.get("parsers") or ["-"])]
            for one in found
        ]
        console().print(table(["FIELD", "TYPE", "VALUES", "PARSER"], rows))
    if not found:
        note("no fields in these lines" if values is None else f"no values of {values!r} in these lines")
