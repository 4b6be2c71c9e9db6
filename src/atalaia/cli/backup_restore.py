"""backup restore: into a new server, into a running one, over an old one; at any moment; or only what it would do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from atalaia.cli import backup_asked as asked
from atalaia.cli.common import FileOption, JsonOption, command_name, console, print_json
from atalaia.cli.telling import Teller
from atalaia.environment.errors import InputError
from atalaia.environment.units import show_size

if TYPE_CHECKING:
    from atalaia.backup.model import Restored
    from atalaia.backup.restoring.into import Into, Put
    from atalaia.backup.restoring.plan import Plan
    from atalaia.backup.restoring.reach import Way
    from atalaia.postgres.cluster import Cluster


def add(group: typer.Typer) -> None:
    """Add this command to the group `backup`."""
    group.command("restore")(restore)


def restore(
    backup: asked.Which = None,
    server: asked.OfServer = None,
    at: asked.At = None,
    lsn: asked.Lsn = None,
    name: asked.Point = None,
    before: asked.Before = None,
    latest: asked.Latest = False,
    timeline: asked.Timeline = "latest",
    database: asked.Databases = None,
    schema: asked.Schemas = None,
    table: asked.Tables = None,
    to: asked.To = None,
    start: asked.Start = False,
    into: asked.IntoServer = None,
    rename_schema: asked.Renamed = None,
    over: asked.Over = None,
    yes_replace: asked.Replace = None,
    preview: asked.Preview = False,
    jobs: asked.Jobs = None,
    origin: asked.From = None,
    as_json: JsonOption = False,
    file: FileOption = None,
) -> None:
    """Restore a backup: all or a part, as it was made or at any moment.

    It goes into a new server, unless --into or --over says otherwise; nothing that exists is overwritten.
    The same command goes on with a restore that was interrupted.
    """
    from atalaia.backup import catalogue, service, site, sources
    from atalaia.backup.keeping.guard import using
    from atalaia.backup.restore import restore_to
    from atalaia.backup.restoring import plan as plans
    from atalaia.backup.restoring import reach
    from atalaia.backup.restoring.into import put
    from atalaia.cli.backup_over import agreed, print_swapped, replace_server
    from atalaia.cli.backups import prepare

    if sum(place is not None for place in (to, into, over)) > 1:
        raise InputError("--to, --into and --over exclude each other", "give one of them")
    environment = prepare(file)
    place = sources.only(site.of(environment), origin) if origin else site.of(environment)
    with Teller() as tell:
        service.list_backups(place, tell)
        if backup and not server:
            server = catalogue.get(place.catalogue, backup).server
        given = {"at": at, "lsn": lsn, "name": name, "before": before}
        target = asked.target_of(environment, server, given, latest, timeline, tell)
        wanted = asked.wanted_of(place, target, database, schema, table, jobs)
        landing = asked.into_of(environment, into, rename_schema)
        replaced = asked.cluster_of(environment, over) if over else None
        chosen = plans.choose(place, backup, server, wanted)
        wanted = plans.named(chosen, wanted)
        room = asked.room_of(place, chosen, wanted, to, landing, replaced)
        planned = plans.plan(place, chosen, wanted, room)
        if preview:
            outcome = _outcome(planned, landing, replaced)
            show = partial(_print_plan, planned, reach.describe(place, planned), outcome, as_json=as_json)
        else:
            if replaced:
                agreed(replaced, planned, yes_replace)
            with using(place, chosen.server, tell):
                if replaced:
                    swapped = replace_server(environment, place, planned, replaced, tell)
                    show = partial(print_swapped, swapped, as_json=as_json)
                elif landing:
                    plans.check_room(planned)
                    show = partial(_print_put, put(place, chosen, wanted, landing, tell), landing, as_json=as_json)
                else:
                    directory = to.resolve() if to else None
                    restored = restore_to(place, chosen, directory, start, tell, wanted)
                    show = partial(_print_restored, restored, as_json=as_json)
    show()


def _outcome(planned: Plan, landing: Into | None, replaced: Cluster | None) -> list[str]:
    """What there would be afterwards. Raises InputError for what would be refused."""
    from atalaia.backup.restoring import into, over

    if landing:
        pairs = into.check(planned.backup, planned.wanted, landing)
        what = into.describe(planned.wanted.selection)
        there = ", ".join(f"{new} of {landing.cluster.name}" for _, new in pairs)
        names = [f"schema {old} gets the name {new}" for old, new in landing.renamed.items()]
        return [f"{what} goes into {there}; what is there already is not overwritten", *names]
    if replaced:
        over.check(replaced, planned.backup)
        size = show_size(over.size_of(replaced.directory))
        return [
            f"{replaced.name} ({replaced.directory}, {size}) is REPLACED: stopped when the new one is whole, and moved "
            "aside, not deleted",
            f"what was written to {replaced.name} since then is only in the directory that is moved aside",
        ]
    return [f"a new server in {planned.room}; nothing is replaced"]


def _print_plan(planned: Plan, way: Way, outcome: list[str], *, as_json: bool) -> None:
    from atalaia.backup.restoring import into

    enough = planned.needs <= planned.free
    if as_json:
        print_json(
            {
                "backup": planned.backup.id,
                "kind": planned.backup.kind,
                "state": planned.backup.state.value,
                "chain": [one.id for one in planned.chain],
                "repository": planned.place,
                "moment": way.moment,
                "wal": way.wal,
                "selection": into.describe(planned.wanted.selection),
                "reads": planned.reads,
                "needs": planned.needs,
                "free": planned.free,
                "enough": enough,
                "seconds": round(planned.seconds, 1) if planned.seconds is not None else None,
                "evidence": planned.evidence,
                "room": str(planned.room),
                "outcome": outcome,
                "remarks": [*planned.remarks, *([way.problem] if way.problem else [])],
            }
        )
        return
    expected = f"about {planned.seconds:.0f} s ({planned.evidence})" if planned.seconds is not None else "not known yet"
    lines = [
        ("backup", f"{planned.backup.id}, {planned.backup.kind}, {planned.backup.state.value}"),
        *([("builds on", ", ".join(one.id for one in planned.chain[:-1]))] if len(planned.chain) > 1 else []),
        ("repository", planned.place),
        ("moment", way.moment),
        *([("WAL", way.wal)] if way.wal else []),
        ("what", into.describe(planned.wanted.selection)),
        ("reads", show_size(planned.reads)),
        ("room", f"about {show_size(planned.needs)} of {show_size(planned.free)} free in {planned.room}"),
        ("duration", expected + (", and the time to replay WAL" if way.wal else "")),
    ]
    screen = console()
    for title, text in lines:
        screen.print(f"{title:<11} {text}", markup=False)
    problems = [way.problem] if way.problem else []
    for text in (
        *outcome,
        *planned.remarks,
        *problems,
        *([] if enough else ["there is NOT ENOUGH ROOM: it would be refused"]),
    ):
        screen.print(f"- {text}", markup=False)
    screen.print("nothing was changed", markup=False)


def _print_put(done: Put, landing: Into, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {
                "backup": done.backup.id,
                "server": landing.cluster.name,
                "databases": [{"name": name, "created": made} for name, made in done.databases.items()],
                "tables": dict(done.tables),
                "remarks": list(done.remarks),
            }
        )
        return
    for name, made in done.databases.items():
        print(f"restored into {'the new database ' if made else ''}{name} of {landing.cluster.name}")
        print(f"  {command_name()} psql {landing.cluster.name} -d {name!r}" if " " in name else
              f"  {command_name()} psql {landing.cluster.name} -d {name}")  # fmt: skip
    for table, rows in done.tables.items():
        print(f"  {table}: {rows} rows")
    for remark in done.remarks:
        print(f"- {remark}")


def _print_restored(done: Restored, *, as_json: bool) -> None:
    from atalaia.postgres import connect

    if as_json:
        data: dict[str, Any] = {
            "backup": done.backup.id,
            "directory": str(done.cluster.directory),
            "port": done.cluster.port,
            "dsn": connect.dsn(done.cluster),
            "password_file": str(done.cluster.password_file),
            "seconds": round(done.seconds, 3),
            "running": done.process is not None,
            "commands": list(done.commands),
        }
        print_json(data)
        return
    print(f"restored {done.backup.id} to {done.cluster.directory} in {done.seconds:.1f} s")
    for command in done.commands:
        print(f"  {command}")
