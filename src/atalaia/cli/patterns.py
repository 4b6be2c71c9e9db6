"""patterns: what kinds of lines there are, and which are new."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atalaia.cli.common import FileOption, JsonOption, environment_of, print_json
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
from atalaia.cli.moments import show_local
from atalaia.environment.errors import InputError
from atalaia.environment.units import parse_duration

if TYPE_CHECKING:
    from atalaia.client.loki import LokiClient

_ALL = 100_000  # patterns that the store tells apart
_NS = 10**9


def register(app: typer.Typer) -> None:
    """Add this group's command."""
    app.command()(patterns)


def patterns(
    selector: Annotated[str, typer.Argument(metavar="SELECTOR", help="Streams; line filters may follow.")],
    since: Annotated[
        str | None, typer.Option(help="How far back (default: 24h; with --new-since 7d).", show_default=False)
    ] = None,
    start: Annotated[
        str | None, typer.Option("--from", help="Begin: RFC 3339, or seconds or ns since 1970.", show_default=False)
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included.", show_default=False)] = None,
    new_since: Annotated[
        str | None,
        typer.Option(help="Only what came up in this last time, such as 1d, and not before.", show_default=False),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="At most so many patterns; 0 for all.")] = 50,
    as_json: JsonOption = False,
    url: UrlOption = None,
    tenant: TenantOption = None,
    user: UserOption = None,
    password_file: PasswordFileOption = None,
    token_file: TokenFileOption = None,
    ca: CaOption = None,
    file: FileOption = None,
) -> None:
    """Show what kinds of lines there are.

    Numbers, addresses, times and IDs are <_>; each pattern can be asked for: atalaia query '{…} |> `PATTERN`'.
    """
    first, last = span(since or ("7d" if new_since else "24h"), start, end)
    border = _border(new_since, first, last)
    environment = environment_of(file)
    connection = connection_of(
        environment, url, tenant=tenant, user=user, password_file=password_file, token_file=token_file, ca=ca,
        address=True,
    )  # fmt: skip
    from atalaia.client.loki import LokiClient

    with closing(LokiClient(connection)) as client:
        found = _asked(client, selector, border or first, last)
        if border is not None:
            known = {one["pattern"] for one in _asked(client, selector, first, border)}
            found = [one for one in found if one["pattern"] not in known]
    shown = found[: limit or None]
    if as_json:
        print_json(shown)
        return
    _print(shown, sum(map(_lines, found)))
    if not found:
        note("nothing new" if new_since else "no lines")
    elif len(shown) < len(found):
        note(f"{len(found) - len(shown)} more patterns: --limit 0 shows all")


def _border(new_since: str | None, first: int, last: int) -> int | None:
    """Where the time begins that is looked at for new patterns."""
    if new_since is None:
        return None
    try:
        border = last - parse_duration(new_since)
    except ValueError as error:
        raise InputError(f"--new-since: {error}") from error
    if not first < border < last:
        raise InputError(
            f"--new-since {new_since} leaves no time before it to compare with",
            "--since and --from must reach further back",
        )
    return border


def _asked(client: LokiClient, selector: str, start: int, end: int) -> list[dict[str, Any]]:
    parameters = {"query": selector, "start": start, "end": end, "limit": _ALL}
    return list(client.get("/loki/api/v1/patterns", parameters))


def _lines(pattern: dict[str, Any]) -> int:
    return sum(count for _, count in pattern["samples"])


def _print(found: Sequence[dict[str, Any]], total: int) -> None:
    if not found:
        return
    rows = [(f"{_lines(one):,}", f"{100 * _lines(one) / total:.1f}%", _moments(one), _visible(one)) for one in found]
    width = max(len("LINES"), *(len(lines) for lines, *_ in rows))
    print(f"{'LINES':>{width}}   SHARE  {'FIRST':19}  {'LAST':19}  PATTERN")
    for lines, share, moments, pattern in rows:
        print(f"{lines:>{width}}  {share:>6}  {moments}  {pattern}")


def _moments(pattern: dict[str, Any]) -> str:
    """The first and the last step with a line, in UTC."""
    times = [at for at, _ in pattern["samples"]]
    return "  ".join(show_local(at * _NS)[:19] for at in (min(times), max(times)))


def _visible(pattern: dict[str, Any]) -> str:
    """On one line, and without what a terminal would take for a command."""
    text = str(pattern["pattern"])
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
