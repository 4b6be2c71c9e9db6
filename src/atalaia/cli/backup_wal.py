"""backup wal, stream: continuous WAL, shown and received."""

from __future__ import annotations

import contextlib
import sys
import threading
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atalaia.cli.common import FileOption, JsonOption, command_name, console, print_json, table
from atalaia.environment.units import show_size

if TYPE_CHECKING:
    from atalaia.backup.wal.view import View

Servers = Annotated[list[str] | None, typer.Argument(help="Servers (default: all).", show_default=False)]


def add(group: typer.Typer) -> None:
    """Add these commands to the group `backup`."""
    group.command()(wal)
    group.command()(stream)


def wal(servers: Servers = None, as_json: JsonOption = False, file: FileOption = None) -> None:
    """Show how far each server's WAL is archived, and what is missing of it.

    Exit code 1 when something is missing or streaming has stopped by itself.
    """
    from atalaia.backup import site
    from atalaia.backup.wal.view import view
    from atalaia.cli.backups import prepare, servers_of

    environment = prepare(file)
    place = site.of(environment)
    views = [view(place, name) for name in servers_of(environment, servers)]
    if as_json:
        print_json([_as_dict(one) for one in views])
    else:
        _print(views)
    bad = any(
        one.status
        and (one.status.interruptions or one.status.problem or (one.status.state != "stopped" and not one.status.alive))
        for one in views
    )
    if bad:
        raise typer.Exit(1)


def stream(
    servers: Servers = None,
    drop: Annotated[
        bool, typer.Option("--drop", help="Stop for good: remove the slot, so that the server keeps no WAL for it.")
    ] = False,
    file: FileOption = None,
) -> None:
    """Stream servers' WAL into the archive until Ctrl-C.

    `stream = true` in [backups.wal] does the same in the background.
    """
    from atalaia.backup import site
    from atalaia.backup.wal.receiving import receive
    from atalaia.cli.backups import clusters_of, prepare
    from atalaia.environment.errors import AtalaiaError

    environment = prepare(file)
    clusters = clusters_of(environment, servers)
    if drop:
        for cluster in clusters:
            _drop(cluster)
        return
    place = site.of(environment)
    stop = threading.Event()
    failed: list[AtalaiaError] = []

    def work(number: int) -> None:
        try:
            receive(clusters[number], place, stop, _tell)
        except AtalaiaError as error:
            failed.append(error)
            stop.set()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(clusters))]
    for thread in threads:
        thread.start()
    try:
        stop.wait()
    except KeyboardInterrupt:
        print("stopping", file=sys.stderr)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    if failed:
        raise failed[0]


def _drop(cluster: Any) -> None:
    import psycopg

    from atalaia.backup.wal import slot
    from atalaia.environment.errors import AtalaiaError
    from atalaia.postgres.connect import connect

    try:
        with contextlib.closing(connect(cluster, autocommit=True)) as connection:
            there = slot.drop(connection)
    except psycopg.Error as error:
        raise AtalaiaError(
            f"the slot of {cluster.name} could not be removed: {str(error).strip()}",
            "stop streaming first: set `stream = false` in [backups.wal], `atalaia down` and `atalaia up`",
        ) from error
    print(f"{cluster.name}: {'the slot is removed' if there else 'there was no slot'}")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _as_dict(one: View) -> dict[str, Any]:
    return {
        "server": one.server,
        "status": one.status.as_dict() if one.status else None,
        "ranges": [
            asdict(reach) | {"since": reach.since.isoformat(), "until": reach.until.isoformat()}
            for reach in one.reaches
        ],
        "missing": [
            {"timeline": gap.first.timeline, "first": gap.first.name, "last": gap.last.name, "text": str(gap)}
            for gap in one.missing
        ],
        "size": one.size,
    }


def _print(views: list[View]) -> None:
    rows = []
    for one in views:
        seen = one.status
        if seen is None:
            rows.append([one.server, "never streamed", "-", "-", "-", "-", "-", show_size(one.size)])
            continue
        alive = seen.alive or seen.state == "stopped"
        state = seen.state if alive else "ended"
        colour = "green" if state == "streaming" else "yellow" if state == "stopped" else "red"
        lag = "-"
        if alive and seen.lag_bytes is not None:
            lag = f"{show_size(seen.lag_bytes)}, {seen.lag_seconds or 0:.0f} s"
        rows.append(
            [
                one.server,
                f"[{colour}]{state}[/{colour}]",
                seen.server_lsn or "-",
                seen.received_lsn or "-",
                seen.archived_lsn or "-",
                lag,
                seen.slot or "-",
                show_size(one.size),
            ]
        )
    columns = ("SERVER", "STATE", "SERVER LSN", "RECEIVED", "ARCHIVED", "BEHIND", "SLOT", "SIZE")
    console().print(table(columns, rows))
    for one in views:
        for reach in one.reaches:
            print(
                f"{one.server}: timeline {reach.timeline}, {reach.start} to {reach.end} "
                f"({_time(reach.since)} to {_time(reach.until)}, {reach.segments} segments)"
            )
        for gap in one.missing:
            print(f"{one.server}: missing: {gap}")
        for hole in one.status.interruptions if one.status else ():
            print(
                f"{one.server}: {hole}; make a physical backup now: "
                f"`{command_name()} backup now {one.server} --kind physical`"
            )
        if one.status and one.status.problem:
            print(f"{one.server}: {one.status.problem}\n  {one.status.remedy}")


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
