"""backup prune, keep, unkeep, schedule, status; and the service that `up` supervises."""

from __future__ import annotations

import signal
import sys
from dataclasses import asdict
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atalaia.cli.common import (
    FileOption,
    JsonOption,
    command_name,
    console,
    environment_of,
    print_json,
    table,
    unwritten,
)
from atalaia.environment.errors import InputError
from atalaia.environment.units import show_size

if TYPE_CHECKING:
    from atalaia.backup.keeping.orphans import Orphan
    from atalaia.backup.keeping.prune import Pruned

MarkOption = Annotated[
    str | None, typer.Option("--until", help="A date such as 2027-12-31: kept through its end.", show_default=False)
]


def add(group: typer.Typer) -> None:
    """Add this module's commands."""
    for command in (prune, keep, unkeep, schedule, status):
        group.command()(command)
    group.command(hidden=True)(serve)


def prune(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what stays, what goes, and why.")] = False,
    as_json: JsonOption = False,
    file: FileOption = None,
) -> None:
    """Remove what retention lets go.

    As [backups.retention] says; and what interrupted work has left. Exit code 1 when something could not be removed.
    """
    from atalaia.backup import site
    from atalaia.backup.keeping import prune as pruning
    from atalaia.cli.backups import prepare, tell

    done = pruning.prune(site.of(prepare(file)), tell, dry_run=dry_run)
    if as_json:
        print_json(_pruned(done, dry_run))
    else:
        _show_pruned(done, dry_run)
    if done.problems:
        raise typer.Exit(1)


def _pruned(done: Pruned, dry_run: bool) -> dict[str, Any]:
    def orphan(one: Orphan) -> dict[str, Any]:
        return {"repository": one.repository, "folder": one.folder, "objects": one.objects, "size": one.size}

    return {
        "dry_run": dry_run,
        "backups": [
            {
                "id": fate.backup.id,
                "server": fate.backup.server,
                "kind": fate.backup.kind,
                "state": fate.backup.state.value,
                "started": fate.backup.started.isoformat(),
                "size": fate.backup.size,
                "stays": fate.stays,
                "why": list(fate.why),
            }
            for fate in done.fates
        ],
        "removed": done.removed,
        "orphans": [orphan(one) for one in done.orphans],
        "unknown": [orphan(one) for one in done.unknown],
        "wal": {server: [asdict(one) for one in found] for server, found in done.wal.items()},
        "skipped": done.skipped,
        "problems": done.problems,
    }


def _show_pruned(done: Pruned, dry_run: bool) -> None:
    screen = console()
    rows = []
    for fate in done.fates:
        word = "[green]stays[/green]" if fate.stays else "[yellow]goes[/yellow]"
        if not fate.stays and fate.backup.id not in done.removed and not dry_run:
            word = "[red]left[/red]"
        backup = fate.backup
        size = show_size(backup.size) if backup.size else "-"
        rows.append([backup.id, backup.kind, backup.state.value, size, word, "; ".join(fate.why) or "no rule keeps it"])
    if rows:
        screen.print(table(("BACKUP", "KIND", "STATE", "SIZE", "", "WHY"), rows))
    for orphan in done.orphans:
        word = "would be removed" if dry_run else "is no backup"
        screen.print(f"{orphan.name} {word}: {orphan.objects} objects without a manifest, {show_size(orphan.size)}")
    for orphan in done.unknown:
        screen.print(f"{orphan.name} is a backup that the catalogue does not know; `atalaia backup rebuild` adds it")
    for server, found in done.wal.items():
        for one in found:
            until = f"before {one.lsn} ({one.backup} is the oldest that needs any)" if one.lsn else "all of it"
            screen.print(f"{server}: WAL of system {one.system} that may go: {until}", markup=False)
    for problem in done.problems:
        screen.print(f"problem: {problem}", markup=False)
    gone = len([fate for fate in done.fates if not fate.stays]) if dry_run else len(done.removed)
    what = "would be removed" if dry_run else "removed"
    screen.print(f"{gone} of {len(done.fates)} backups {what}" + (f", {show_size(done.size)}" if dry_run else ""))


def keep(
    backup: Annotated[str, typer.Argument(help="Which backup, as `backup list` names it.")],
    until: MarkOption = None,
    file: FileOption = None,
) -> None:
    """Let retention leave a backup, for ever or until a date."""
    from atalaia.backup.keeping.retention import FOREVER

    try:
        mark = date.fromisoformat(until).isoformat() if until else FOREVER
    except ValueError as error:
        raise InputError(f"--until {until!r} is not a date", "such as 2027-12-31") from error
    _mark(backup, mark, file)
    print(f"{backup} is kept {'until ' + mark if until else 'for ever'}; `{command_name()} backup unkeep` ends that")


def unkeep(
    backup: Annotated[str, typer.Argument(help="Which backup, as `backup list` names it.")], file: FileOption = None
) -> None:
    """Take the mark of `keep` away."""
    _mark(backup, "", file)
    print(f"{backup} is kept as retention says; `{command_name()} backup prune --dry-run` shows how")


def _mark(identifier: str, mark: str, file: Path | None) -> None:
    from atalaia.backup import catalogue, site
    from atalaia.backup.keeping.prune import mark as set_mark
    from atalaia.backup.keeping.retention import half_gone
    from atalaia.cli.backups import prepare

    place = site.of(prepare(file))
    backup = catalogue.get(place.catalogue, identifier)
    if half_gone(backup):
        raise InputError(f"{identifier} is being removed", f"`{command_name()} backup prune` ends that")
    set_mark(place, backup, mark)


def schedule(as_json: JsonOption = False, file: FileOption = None) -> None:
    """Show what runs when next, and how it went last."""
    from atalaia.backup.keeping import runs
    from atalaia.backup.keeping.schedule import jitter_of, jobs, next_start
    from atalaia.runtime.zone import local_zone

    environment = environment_of(file)
    settings = environment.settings.backups.schedule
    now, zone = datetime.now(UTC), local_zone()
    known = runs.read(environment.state.backup_runs)
    found: list[dict[str, Any]] = []
    for job in jobs(settings, environment.settings.servers):
        run = known.last.get(job.name)
        due = next_start(job, known.since(job, now), run, now, jitter_of(settings), zone)
        last = None
        if run:
            last = {
                "started": run.started.isoformat(),
                "finished": run.finished.isoformat() if run.finished else None,
                "attempt": run.attempt,
                "exit_code": run.code,
                "problem": run.problem,
            }
        at = due.at.astimezone(zone) if due else None
        found.append({"task": job.task, "server": job.server or None, "cron": job.cron, "next": at, "last": last})
    if as_json:
        print_json([{**one, "next": one["next"].isoformat() if one["next"] else None} for one in found])
        return
    if not found:
        print(f"nothing is scheduled; [backups.schedule] in {environment.file.name} says what is", file=sys.stderr)
        return
    rows = []
    for one in found:
        at = one["next"]
        following = "now" if at and at <= now else f"{at:%Y-%m-%d %H:%M %Z}" if at else "never"
        rows.append([one["task"], one["server"] or "all", one["cron"], following, _result(one["last"])])
    console().print(table(("TASK", "SERVER", "CRON", "NEXT", "LAST"), rows))


def _result(last: dict[str, Any] | None) -> str:
    if last is None:
        return "-"
    began = f"{datetime.fromisoformat(last['started']):%Y-%m-%d %H:%M}Z"
    if last["finished"] is None:
        return f"{began} [yellow]running[/yellow]" + (" (the one before it failed)" if last["problem"] else "")
    code = last["exit_code"]
    if code is None:
        return f"{began} nobody saw how it ended"
    return f"{began} [green]good[/green]" if code == 0 else f"{began} [red]failed[/red] (attempt {last['attempt']})"


def status(
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Print Prometheus metrics, for node_exporter's textfile collector.")
    ] = False,
    as_json: JsonOption = False,
    file: FileOption = None,
) -> None:
    """Say whether backups are as promised.

    One line for each reason why not, with what to do. Exit code 1 then.
    """
    from atalaia.backup.keeping.gather import check, gather
    from atalaia.backup.keeping.metrics import exposition
    from atalaia.backup.keeping.promise import judge
    from atalaia.cli.backup_state import as_data, lines_of

    environment = environment_of(file)
    facts = gather(environment)
    if facts.problem is None:
        facts = gather(environment, check(environment, facts.backups))
    reasons = judge(facts)
    if metrics:
        # The file that it is written to must be whole even when something is red: metrics say so themselves.
        print(exposition(facts, reasons).decode(), end="")
        return
    if as_json:
        print_json(as_data(facts, reasons))
    else:
        for line in lines_of(facts, reasons):
            console().print(line, markup=False)
    if reasons:
        raise typer.Exit(1)


def serve(environment: Annotated[Path, typer.Option("--environment")]) -> None:
    """The backup service, as `up` keeps it."""
    from atalaia.backup import site
    from atalaia.backup.keeping import serving
    from atalaia.runtime.logs import configure
    from atalaia.supervisor.layout import recall

    found = environment_of(environment) if environment.exists() else unwritten(environment)
    layout = recall(found)
    if layout is None:
        raise InputError("this environment was never started", f"run `{command_name()} up`")
    configure("backup", found.state.own_logs / "backup-service.log")
    stop = serving.Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop())
    serving.serve(found, layout.clusters, site.of(found), stop)
