"""logs: what the servers said, for people; and how commands read times and queries."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from atalaia.cli.common import FileOption, environment_of, show_time
from atalaia.cli.connection import client_of
from atalaia.cli.output import Sink, printable
from atalaia.cli.severity import code_of, coloured, colourful, severity_of
from atalaia.environment.errors import InputError
from atalaia.environment.units import parse_duration

if TYPE_CHECKING:
    from atalaia.client.entries import LogEntry
    from atalaia.logql.tree import Query

_SERVERS = ("36", "35", "32", "34", "96", "95")


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(logs)


def moment(text: str, name: str) -> int:
    """A time given by the user, in ns. Raises InputError."""
    from atalaia.wire.times import parse_time

    return parse_time(text, name)


def span(since: str, start: str | None, end: str | None) -> tuple[int, int]:
    """[start, end) in ns of the options --since, --from and --to."""
    try:
        back = parse_duration(since)
    except ValueError as error:
        raise InputError(f"--since: {error}") from error
    last = moment(end, "--to") if end else time.time_ns() + 1
    first = moment(start, "--from") if start else last - back
    if first >= last:
        raise InputError("the time asked for is empty: --from is not before --to")
    return first, last


def logs(
    servers: Annotated[list[str] | None, typer.Argument(help="Servers (default: all).", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes.")] = False,
    lines: Annotated[int, typer.Option("-n", "--lines", min=1, max=5000, help="How many of the newest lines.")] = 50,
    since: Annotated[str, typer.Option(help="How far back at the most.")] = "7d",
    file: FileOption = None,
) -> None:
    """Show the servers' logs, newest last."""
    environment = environment_of(file)
    known = list(environment.settings.servers)
    for server in servers or ():
        if server not in known:
            raise InputError(f"there is no server {server!r}", f"there are: {', '.join(known)}")
    names = "|".join(re.escape(name) for name in servers or known)
    selector = f'{{job="postgres", server=~"{names}"}}'
    client = client_of(environment)
    first, last = span(since, None, None)
    if follow:
        from atalaia.client.follow import follow as followed

        for entries in followed(client, selector, start=first, limit=lines, note=note):
            _show(entries, known)
    newest = list(client.entries(selector, start=first, end=last, limit=lines, newest_first=True))[::-1]
    _show(newest, known)
    if not newest:
        note(f"no lines in the last {since}")


def _show(entries: Sequence[LogEntry], known: list[str]) -> None:
    """A line an entry: its time, its server, what it says."""
    colours = colourful()
    width = max((len(name) for name in known), default=0)
    text = []
    for entry in entries:
        server = entry.labels.get("server", "")
        told = (show_time(entry.ts), f"{server:<{width}}", entry.line)
        if colours:
            code = _SERVERS[known.index(server) % len(_SERVERS)] if server in known else None
            said = coloured(printable(entry.line), code_of(severity_of(entry.labels, entry.line)))
            told = (coloured(told[0], "2"), coloured(told[1], code), said)
        text.append("{} {}  {}\n".format(*told))
    Sink(None).write("".join(text))


def note(text: str) -> None:
    """Tell a person something beside the output."""
    print(text, file=sys.stderr, flush=True)


def parsed(logql: str) -> Query:
    """The tree of a query. Raises InputError that points at what is wrong."""
    from atalaia.logql.errors import LogQLError
    from atalaia.logql.parse import parse

    try:
        return parse(logql)
    except LogQLError as error:
        raise InputError(f"{error}\n{_pointed(logql, error.line, error.column)}") from error


def _pointed(text: str, line: int, column: int) -> str:
    lines = text.splitlines()
    if not 0 < line <= len(lines):
        return ""
    return f"  {lines[line - 1]}\n  {' ' * (column - 1)}^"
