"""store delete, store deletions: entries removed for good, and the record of it."""

from __future__ import annotations

import sys
import time
from typing import Annotated

import typer

from atalaia.cli.common import (
    FileOption,
    JsonOption,
    command_name,
    console,
    environment_of,
    print_json,
    show_time,
    table,
)
from atalaia.cli.connection import client_of
from atalaia.cli.logs import moment, parsed
from atalaia.environment.errors import InputError

TenantOption = Annotated[str, typer.Option(help="Whose entries.")]
UrlOption = Annotated[
    str | None, typer.Option(help="The store to ask (default: the environment's).", show_default=False)
]


def register(group: typer.Typer) -> None:
    """Add these commands to `store`."""
    group.command()(delete)
    group.command()(deletions)


def delete(
    logql: Annotated[str, typer.Argument(metavar="LOGQL", help="A selector, and filters of lines.")],
    start: Annotated[str, typer.Option("--from", help="Begin: RFC 3339, or seconds or ns since 1970; 0 for all.")],
    end: Annotated[
        str | None, typer.Option("--to", help="End, not included (default: now).", show_default=False)
    ] = None,
    tenant: TenantOption = "fake",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    url: UrlOption = None,
    file: FileOption = None,
) -> None:
    """Delete entries for good.

    They are hidden at once, and soon gone from the files. What is pushed later stays.
    """
    from atalaia.logql.printer import print_query
    from atalaia.logql.tree import LogQuery

    tree = parsed(logql)
    if not isinstance(tree, LogQuery):
        raise InputError("what is to be deleted is named by a selector and filters of lines, not by a metric query")
    first, last = moment(start, "--from"), moment(end, "--to") if end else time.time_ns()
    if first >= last:
        raise InputError("the time asked for is empty: --from is not before --to")
    client = client_of(environment_of(file), url)
    if not yes:
        # The range of an instant query is open at its begin and closed at its end.
        count = f"sum(count_over_time({print_query(tree)}[{last - first}ns]))"
        parameters = {"query": count, "time": last - 1}
        found = client.get("/loki/api/v1/query", parameters, {"X-Scope-OrgID": tenant})["result"]
        number = int(float(found[0]["value"][1])) if found else 0
        if not number:
            print("there are no such entries; nothing was deleted", file=sys.stderr)
            return
        what = "one entry" if number == 1 else f"{number:,} entries"
        typer.confirm(f"delete {what} from {show_time(first)} to {show_time(last)} for good?", abort=True, err=True)
    client.delete(logql, first, last, tenant)
    print(
        f"hidden from now on; `{command_name()} store deletions` tells when the files are without them", file=sys.stderr
    )


def deletions(
    tenant: TenantOption = "fake", url: UrlOption = None, as_json: JsonOption = False, file: FileOption = None
) -> None:
    """Show what was deleted when."""
    found = client_of(environment_of(file), url).deletions(tenant)
    if as_json:
        print_json(found)
        return
    rows = [
        [
            one["request_id"],
            _seconds(one["created_at"]),
            # A Loki tells neither of these.
            _seconds(one["finished_at"]) if one.get("finished_at") is not None else "-",
            f"{one['removed']:,}" if "removed" in one else "-",
            _seconds(one["start_time"]),
            _seconds(one["end_time"]),
            one["query"],
        ]
        for one in found
    ]
    if not rows:
        print("nothing was ever deleted", file=sys.stderr)
        return
    console().print(table(["ID", "ASKED FOR", "FINISHED", "REMOVED", "FROM", "TO", "QUERY"], rows))


def _seconds(moment: float) -> str:
    return show_time(round(moment * 1e9))
