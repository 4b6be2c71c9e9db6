"""logs and query: what is stored, for people and for programs."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from atalaia.cli.common import (
    FileOption,
    JsonOption,
    console,
    environment_of,
    print_json,
    show_time,
    table,
)
from atalaia.cli.connection import client_of
from atalaia.cli.readings import print_readings
from atalaia.environment.errors import InputError
from atalaia.environment.units import parse_duration

if TYPE_CHECKING:
    from atalaia.client.entries import LogEntry
    from atalaia.client.loki import LokiClient
    from atalaia.logql.tree import Query

_SEVERITY = {
    "ERROR": "red",
    "FATAL": "bold red",
    "PANIC": "bold white on red",
    "WARNING": "yellow",
    "error": "red",
    "warning": "yellow",
}
_SERVERS = ("cyan", "magenta", "green", "blue", "bright_cyan", "bright_magenta")
_NS = 10**9


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(logs)
    app.command()(query)


def moment(text: str, name: str) -> int:
    """A time given by the user, in ns. Raises InputError."""
    from atalaia.api.times import parse_time

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
    newest = list(client.entries(selector, start=first, end=last, limit=lines, newest_first=True))[::-1]
    _show(newest, known)
    if follow:
        _follow(client, selector, newest, first, known)
    elif not newest:
        print(f"no lines in the last {since}", file=sys.stderr)


def _follow(client: LokiClient, selector: str, shown: list[LogEntry], first: int, known: list[str]) -> None:
    """Ask again for what is new. Entries of the last moments are asked for again, since they may arrive late."""
    late = 10 * _NS
    seen: dict[tuple[int, str, str], int] = {}
    for entry in shown:
        seen[_identity(entry)] = seen.get(_identity(entry), 0) + 1
    began = max(first, shown[0].ts) if shown else time.time_ns() - late
    while True:
        now = time.time_ns()
        start = max(began, now - late)
        count: dict[tuple[int, str, str], int] = {}
        fresh = []
        for entry in client.entries(selector, start=start, end=now + late):
            key = _identity(entry)
            count[key] = count.get(key, 0) + 1
            if count[key] > seen.get(key, 0):
                seen[key] = count[key]
                fresh.append(entry)
        _show(fresh, known)
        seen = {key: n for key, n in seen.items() if key[0] >= start - late}
        time.sleep(0.5)


def _identity(entry: LogEntry) -> tuple[int, str, str]:
    return entry.ts, entry.labels.get("server", ""), entry.metadata.get("session_line", "") + entry.line


def _show(entries: Iterable[LogEntry], known: list[str]) -> None:
    screen = console()
    width = max((len(name) for name in known), default=0)
    for entry in entries:
        server = entry.labels.get("server", "")
        colour = _SERVERS[known.index(server) % len(_SERVERS)] if server in known else ""
        text = Text(f"{show_time(entry.ts)} ", style="dim")
        text.append(f"{server:<{width}}  ", style=colour)
        text.append(entry.line, style=_SEVERITY.get(entry.labels.get("severity", ""), "default"))
        screen.print(text)
    sys.stdout.flush()


def query(
    logql: Annotated[str, typer.Argument(metavar="LOGQL", help="A LogQL query.")],
    since: Annotated[str, typer.Option(help="How far back.")] = "1h",
    start: Annotated[
        str | None,
        typer.Option("--from", help="Begin: RFC 3339, or seconds or ns since 1970.", show_default=False),
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many lines; 0 for all.")] = 100,
    forward: Annotated[bool, typer.Option("--forward", help="Oldest lines first.")] = False,
    step: Annotated[str | None, typer.Option(help="Compute a metric query every so often.", show_default=False)] = None,
    url: Annotated[
        str | None, typer.Option(help="Ask this Loki instead of the environment's store.", show_default=False)
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show what the store would read, instead of the answer.")
    ] = False,
    as_json: JsonOption = False,
    file: FileOption = None,
) -> None:
    """Ask the log store with LogQL.

    Lines for a log query, a table for a metric query.
    """
    from atalaia.logql.tree import LogQuery

    tree = parsed(logql)
    first, last = span(since, start, end)
    client = client_of(environment_of(file), url)
    if explain:
        readings = client.get("/atalaia/v1/explain", {"query": logql, "start": first, "end": last})
        print_json(readings) if as_json else print_readings(readings)
        return
    if isinstance(tree, LogQuery):
        _print_lines(
            client.entries(logql, start=first, end=last, limit=limit or None, newest_first=not forward),
            as_json,
        )
        return
    if step is None:
        data = client.query(logql, time=last)
    else:
        try:
            parse_duration(step)
        except ValueError as error:
            raise InputError(f"--step: {error}") from error
        data = client.query_range(logql, start=first, end=last, step=step)
    if as_json:
        print_json(data)
    else:
        _print_series(data)


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


def _print_lines(entries: Iterator[LogEntry], as_json: bool) -> None:
    screen = console()
    for entry in entries:
        if as_json:
            print(
                json.dumps(
                    {
                        "ts": entry.ts,
                        "labels": dict(entry.labels),
                        "line": entry.line,
                        "metadata": dict(entry.metadata),
                    },
                    ensure_ascii=False,
                )
            )
            continue
        labels = ",".join(f"{k}={v}" for k, v in sorted(entry.labels.items()))
        text = Text(f"{show_time(entry.ts)} ", style="dim")
        text.append(f"{{{labels}}} ", style="cyan")
        text.append(
            entry.line,
            style=_SEVERITY.get(entry.labels.get("severity", entry.labels.get("level", "")), "default"),
        )
        screen.print(text)


def _print_series(data: dict[str, Any]) -> None:
    if data["resultType"] == "scalar":
        print(data["result"][1])
        return
    series = data["result"]
    names = sorted({name for s in series for name in s["metric"]})
    rows = []
    for s in series:
        labels = [s["metric"].get(name, "") for name in names]
        if data["resultType"] == "vector":
            rows.append([*labels, s["value"][1]])
        else:
            rows += [[show_time(int(float(at) * 1000) * 10**6), *labels, value] for at, value in s["values"]]
    columns = names if data["resultType"] == "vector" else ["TIME", *names]
    if not rows:
        print("no samples", file=sys.stderr)
        return
    console().print(table([*columns, "VALUE"], rows))
