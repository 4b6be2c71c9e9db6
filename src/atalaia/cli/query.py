"""query: asks a log store with LogQL, as logcli does; parses what was asked, then asking.py does it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atalaia.cli.asking import Question, ask
from atalaia.cli.common import FileOption, environment_of
from atalaia.cli.connection import (
    CaOption,
    PasswordFileOption,
    TenantOption,
    TokenFileOption,
    UrlOption,
    UserOption,
    connection_of,
)
from atalaia.cli.labels import Shown
from atalaia.cli.logs import note, parsed, span
from atalaia.cli.options import Options, Problems, Zone
from atalaia.cli.output import Form, Style

if TYPE_CHECKING:
    from atalaia.environment.connection import Connection


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    app.command()(query)


def query(
    logql: Annotated[
        str | None, typer.Argument(metavar="LOGQL", help="A query; with --labels a label.", show_default=False)
    ] = None,
    since: Annotated[str, typer.Option(help="How far back.")] = "1h",
    start: Annotated[
        str | None, typer.Option("--from", help="Begin: RFC 3339, or seconds or ns since 1970.", show_default=False)
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="At most so many lines; 0 for all.")] = 100,
    forward: Annotated[bool, typer.Option("--forward", help="Oldest lines first.")] = False,
    interval: Annotated[str | None, typer.Option(help="Lines so far apart at least.", show_default=False)] = None,
    step: Annotated[str | None, typer.Option(help="Compute a metric query every so often.", show_default=False)] = None,
    instant: Annotated[bool, typer.Option("--instant", help="A metric query at one moment (default: --to).")] = False,
    at: Annotated[str | None, typer.Option(help="The moment of --instant.", show_default=False)] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes.")] = False,
    delay_for: Annotated[int, typer.Option(help="Follow so many seconds behind (0-5), for lines in order.")] = 0,
    labels: Annotated[
        bool, typer.Option("--labels", help="The names of labels; of one that is named: values.")
    ] = False,
    series: Annotated[bool, typer.Option("--series", help="The streams that a selector selects.")] = False,
    histogram: Annotated[
        bool, typer.Option("--histogram", help="Lines over time, above; or a metric over time.")
    ] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Tell what the server says that it read.")] = False,
    explain: Annotated[
        bool, typer.Option("--explain", help="What Atalaia's store would read, not the answer.")
    ] = False,
    output: Annotated[Form, typer.Option("-o", "--output", help="The form of what is found.")] = Form.DEFAULT,
    out: Annotated[Path | None, typer.Option(help="Write to this file.", show_default=False)] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="As --output jsonl; of a metric, Loki's whole answer.")
    ] = False,
    no_labels: Annotated[bool, typer.Option("--no-labels", help="Show no labels.")] = False,
    include_label: Annotated[
        list[str] | None, typer.Option(help="Show this label, and others so named, alone.", show_default=False)
    ] = None,
    exclude_label: Annotated[list[str] | None, typer.Option(help="Do not show this label.", show_default=False)] = None,
    timezone: Annotated[Zone, typer.Option(help="Times are shown in this zone.")] = Zone.UTC,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Tell nothing on standard error.")] = False,
    url: UrlOption = None,
    tenant: TenantOption = None,
    user: UserOption = None,
    password_file: PasswordFileOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    file: FileOption = None,
) -> None:
    """Ask a log store with LogQL.

    Lines for a log query, a table for a metric query. Any Loki answers: --url, or LOKI_ADDR.
    """
    problems = Problems()
    shown = Shown(tuple(include_label or ()), tuple(exclude_label or ()), no_labels)
    options = Options(
        logql, limit, forward, interval, step, instant or at is not None, at, follow, delay_for, labels, series,
        histogram, stats, explain, Form.JSONL if as_json else output, out, as_json, quiet,
        Style(shown, timezone is Zone.LOCAL, note if not quiet else lambda _: None),
    )  # fmt: skip
    first, last = problems.tried(lambda: span(since, start, end)) or (0, 1)
    tree = problems.tried(lambda: parsed(logql)) if logql and not labels else None
    asked = Question(options, first, last, tree, options.checked(problems, tree))

    def connected() -> Connection:
        return connection_of(
            environment_of(file), url, tenant=tenant, user=user, password_file=password_file, token_file=token_file,
            ca=ca, address=True,
        )  # fmt: skip

    connection = problems.tried(connected)
    problems.tell()
    assert connection is not None
    ask(connection, asked)
