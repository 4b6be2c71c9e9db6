"""store: look after the files of the log store, and carry its entries elsewhere."""

from __future__ import annotations

import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from atalaia.cli import deletions
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
from atalaia.cli.connection import connection_of
from atalaia.cli.logs import moment
from atalaia.cli.progress import Meter
from atalaia.environment.errors import InputError
from atalaia.environment.units import show_size

if TYPE_CHECKING:
    from atalaia.store.salvage import Repaired
    from atalaia.store.stats import Stats

DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="The store's directory (default: the environment's store).", show_default=False),
]
_DAYS = 7


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(
        no_args_is_help=True, help="Verify, repair, measure, copy, export and import the log store; delete."
    )
    for command in (check, repair, stats, snapshot, export):
        group.command()(command)
    group.command("import")(import_)
    deletions.register(group)
    app.add_typer(group, name="store")


def _directory(data: Path | None, file: Path | None) -> Path:
    if data is not None:
        return data
    environment = environment_of(file)
    if environment.settings.logs.url:
        raise InputError(
            f"the logs are kept at {environment.settings.logs.url}", "name a store's directory with --data"
        )
    return environment.store_directory


def check(data: DataOption = None, as_json: JsonOption = False, file: FileOption = None) -> None:
    """Verify every checksum, and the catalogue.

    Also while the store runs. Exit code 1 when anything is damaged.
    """
    from atalaia.store.check import check as run

    directory = _directory(data, file)
    with Meter("verified", "B") as meter:
        findings = []
        for finding in run(directory, meter.update):
            findings.append(finding)
            if not as_json:
                meter.tell(f"{finding.file}: {finding.problem}")
    damaged = {finding.file for finding in findings if finding.damage}
    if as_json:
        print_json([asdict(finding) for finding in findings])
    elif damaged:
        print(f"damaged files: {len(damaged)}; `{command_name()} store repair` saves the rest of them", file=sys.stderr)
    else:
        print(f"{directory} is undamaged", file=sys.stderr)
    if damaged:
        raise typer.Exit(1)


def repair(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    data: DataOption = None,
    as_json: JsonOption = False,
    file: FileOption = None,
) -> None:
    """Save what is undamaged.

    The store must not run. What is taken out of use is kept in its folder `damaged`.
    """
    from atalaia.store.repair import repair as run

    directory = _directory(data, file)
    with Meter("verified", "B") as meter:
        done = []
        for one in run(directory, dry_run, meter.update):
            done.append(one)
            if not as_json:
                meter.tell(_repaired(one))
    if as_json:
        print_json([asdict(one) for one in done])
    elif not done:
        print("nothing is damaged", file=sys.stderr)
    elif dry_run:
        print("nothing was changed: that is what would be done", file=sys.stderr)


def _repaired(one: Repaired) -> str:
    lines = [f"{one.file}: {one.done}"]
    if one.lost is None:
        lines.append("  entries are lost; how many is not known")
    elif one.lost:
        when = f", from {show_time(one.start)} to {show_time(one.end)}" if one.start is not None and one.end else ""
        lines.append(f"  {one.lost} entries are lost{when}")
        lines += [f"    of {text}" for text in one.streams[:10]]
        if len(one.streams) > 10:
            lines.append(f"    and of {len(one.streams) - 10} more streams")
    return "\n".join(lines)


def stats(data: DataOption = None, as_json: JsonOption = False, file: FileOption = None) -> None:
    """Show what the store holds and how it grows.

    Also while the store runs.
    """
    from atalaia.store.stats import stats as run

    found = run(_directory(data, file))
    if as_json:
        print_json(asdict(found))
    else:
        _print_stats(found)


def _print_stats(found: Stats) -> None:
    screen = console()
    disk = found.segment_bytes + found.index_bytes + found.log_bytes + found.catalogue_bytes
    ratio = f", {found.line_bytes / found.segment_bytes:.1f} times the segments" if found.segment_bytes else ""
    levels = ", ".join(f"{count} of level {level}" for level, count in found.levels.items())
    span = (
        f"{show_time(found.oldest)} to {show_time(found.newest)}" if found.oldest is not None and found.newest else "-"
    )
    rows = [
        ["entries", f"{found.entries:,}, and {found.log_entries:,} in the write-ahead log"],
        ["time", span],
        ["streams", f"{found.streams:,}"],
        ["lines", f"{show_size(found.line_bytes)}{ratio}"],
        [
            "on disk",
            f"{show_size(disk)}: segments {show_size(found.segment_bytes)}, indexes {show_size(found.index_bytes)},"
            f" log {show_size(found.log_bytes)}, catalogue {show_size(found.catalogue_bytes)}",
        ],
        ["segments", levels or "-"],
        ["templates", f"{found.templates:,}"],
    ]
    if found.deletions_open:
        rows.append(["deletions", f"{found.deletions_open} not finished"])
    screen.print(table(["STORE", ""], rows))
    if found.tenants:
        tenants = [
            [
                t.tenant,
                f"{t.streams:,}",
                f"{t.entries:,}",
                show_size(t.line_bytes),
                *map(show_time, (t.oldest, t.newest)),
            ]
            for t in found.tenants
        ]
        if found.untold:
            tenants.append(["(not told apart)", "", f"{found.untold:,}", "", "", ""])
        screen.print()
        screen.print(table(["TENANT", "STREAMS", "ENTRIES", "LINES", "OLDEST", "NEWEST"], tenants))
    if found.days:
        days = [
            [
                f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=d.day):%Y-%m-%d}",
                f"{d.entries:,}",
                show_size(d.line_bytes),
                show_size(d.bytes),
            ]
            for d in found.days[-_DAYS:]
        ]
        screen.print()
        screen.print(table(["CAME ON", "ENTRIES", "LINES", "ON DISK"], days))
    if found.top:
        screen.print()
        top = [[f"{t.entries:,}", t.example.splitlines()[0][:120] if t.example else ""] for t in found.top]
        screen.print(table(["ENTRIES", "LIKE THIS ONE"], top))


def snapshot(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A directory that does not exist yet.")],
    data: DataOption = None,
    file: FileOption = None,
) -> None:
    """Copy the store as it is at this moment.

    Also while it runs. On the same file system the copy takes no room at first: its segments are hard links.
    """
    from atalaia.store.copying import snapshot as run

    copied = run(_directory(data, file), target)
    print(f"{target}: {copied.segments} segments, {copied.linked} files linked, {show_size(copied.copied)} copied")
    print(f"`{command_name()} serve --data {target}` opens it", file=sys.stderr)


def export(
    target: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory, or one of an export to go on with.")],
    form: Annotated[str, typer.Option("--format", help="parquet or jsonl.")] = "parquet",
    start: Annotated[
        str | None, typer.Option("--from", help="Begin: RFC 3339, or seconds or ns since 1970.", show_default=False)
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="End, not included.", show_default=False)] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's entries.", show_default=False)] = None,
    data: DataOption = None,
    file: FileOption = None,
) -> None:
    """Write all entries to Parquet or JSON Lines files, in order of time.

    Also while the store runs. Run again after it was cut off, it goes on behind the last finished file.
    """
    from atalaia.store.export import export as run
    from atalaia.store.manifest import Kind, Wanted

    if form not in list(Kind):
        raise InputError(f"--format {form!r} is not known", f"there are: {', '.join(Kind)}")
    limits = {"start": moment(start, "--from") if start else None, "end": moment(end, "--to") if end else None}
    wanted = Wanted(kind=Kind(form), tenant=tenant, **{k: v for k, v in limits.items() if v is not None})
    if wanted.start >= wanted.end:
        raise InputError("the time asked for is empty: --from is not before --to")
    with Meter("exported", "entries") as meter:
        made = run(_directory(data, file), target, wanted, meter.update)
    size = sum(part.bytes for part in made.parts)
    print(f"{target}: {made.rows:,} entries in {len(made.parts)} files, {show_size(size)}")


def import_(
    paths: Annotated[
        list[Path], typer.Argument(metavar="DIR|FILE...", help="Exports, or Parquet and JSON Lines files.")
    ],
    tenant: Annotated[str, typer.Option(help="The tenant of entries that name none.")] = "fake",
    url: Annotated[
        str | None, typer.Option(help="The store to push to (default: the environment's).", show_default=False)
    ] = None,
    as_json: JsonOption = False,
    file: FileOption = None,
) -> None:
    """Push the entries of files to the running store.

    Run again, also after it was cut off, it stores nothing twice. Exit code 1 when the store refused entries.
    """
    from atalaia.client.importing import import_file, inputs
    from atalaia.client.pusher import Pusher

    files = inputs(paths)
    pusher = Pusher(connection_of(environment_of(file), url))
    done = []
    try:
        for number, given in enumerate(files, 1):
            with Meter(f"imported ({number} of {len(files)} files)", "entries") as meter:
                done.append(import_file(given, pusher, tenant, meter.update))
    finally:
        pusher.close()
    if as_json:
        print_json([asdict(one) for one in done])
    else:
        rows = [[one.file, f"{one.stored:,}", f"{one.known:,}", f"{one.refused:,}"] for one in done]
        console().print(table(["FILE", "STORED", "KNOWN BEFORE", "REFUSED"], rows))
        for one in done:
            if one.message:
                print(f"{one.file}: {one.message}", file=sys.stderr)
    if any(one.refused for one in done):
        raise typer.Exit(1)
