"""backup now, list, verify; the group's other commands are in modules of their own."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atalaia.cli import backup_extract, backup_inspect, backup_keeping, backup_restore, backup_stores, backup_wal
from atalaia.cli.common import FileOption, JsonOption, command_name, console, environment_of, print_json, table
from atalaia.cli.telling import Teller
from atalaia.environment.errors import InputError
from atalaia.environment.load import Environment
from atalaia.environment.units import show_size

if TYPE_CHECKING:
    from atalaia.backup.model import Backup
    from atalaia.postgres.cluster import Cluster

_COLOURS = {"verified": "green", "complete": "yellow", "running": "yellow", "failed": "red"}


def register(app: typer.Typer) -> None:
    """Add this group's commands."""
    group = typer.Typer(no_args_is_help=True, help="Back up, prove that it restores, restore.")
    for name, command in (("now", now), ("list", list_), ("verify", verify)):
        group.command(name)(command)
    for module in (backup_restore, backup_keeping, backup_stores, backup_wal, backup_inspect, backup_extract):
        module.add(group)
    app.add_typer(group, name="backup")


def tell(line: str) -> None:
    """Progress, beside the output."""
    print(line, file=sys.stderr, flush=True)


def prepare(file: Path | None) -> Environment:
    """The environment, with what happens to backups written to its logs."""
    from atalaia.runtime.logs import configure

    environment = environment_of(file)
    if environment.state.root.is_dir():
        configure("backup", environment.state.own_logs / "backup.log")
    return environment


def servers_of(environment: Environment, servers: list[str] | None) -> list[str]:
    """The names that are given, or all. Raises InputError for one that there is not."""
    for server in servers or ():
        if server not in environment.settings.servers:
            raise InputError(f"there is no server {server!r}", f"there are: {', '.join(environment.settings.servers)}")
    return servers or list(environment.settings.servers)


def clusters_of(environment: Environment, servers: list[str] | None) -> list[Cluster]:
    """The servers that are given, or all. Raises InputError when there is none such, or nothing was ever started."""
    from atalaia.supervisor.layout import recall

    servers_of(environment, servers)
    layout = recall(environment)
    if layout is None:
        raise InputError("this environment was never started", f"run `{command_name()} up`")
    return [cluster for name, cluster in layout.clusters.items() if not servers or name in servers]


def now(
    servers: Annotated[list[str] | None, typer.Argument(help="Servers (default: all).", show_default=False)] = None,
    kind: Annotated[
        str | None,
        typer.Option("--kind", help="plain, logical or physical (default: as configured).", show_default=False),
    ] = None,
    incremental: Annotated[
        bool, typer.Option("--incremental", help="Only what changed since the last physical one (PostgreSQL 17).")
    ] = False,
    as_json: JsonOption = False,
    file: FileOption = None,
) -> None:
    """Back up servers and prove it.

    Each backup is restored into a temporary server and compared.
    """
    from atalaia.backup import service, site
    from atalaia.backup.kinds import KINDS

    if incremental and kind is None:
        kind = "physical"
    if kind and kind not in KINDS:
        raise InputError(f"there is no kind of backup {kind!r}", f"there are: {', '.join(KINDS)}")
    environment = prepare(file)
    clusters = clusters_of(environment, servers)
    place = site.of(environment)
    with Teller() as teller:
        made = [service.backup_now(cluster, place, teller, kind=kind, incremental=incremental) for cluster in clusters]
    print_backups(made, as_json)
    if any(copy.problem for backup in made for copy in backup.copies):
        raise typer.Exit(1)


def list_(as_json: JsonOption = False, file: FileOption = None) -> None:
    """Show all backups, oldest first.

    Only those that are complete or verified can be restored.
    """
    from atalaia.backup import service, site

    environment = prepare(file)
    found = service.list_backups(site.of(environment), tell)
    if not found and not as_json:
        print(f"there are no backups yet; `{command_name()} backup now` makes one", file=sys.stderr)
        return
    print_backups(found, as_json)


def verify(
    backups: Annotated[
        list[str] | None, typer.Argument(help="Backups (default: the last of each server).", show_default=False)
    ] = None,
    fast: Annotated[
        bool, typer.Option("--fast", help="Compare checksums only, in every repository; states stay.")
    ] = False,
    origin: backup_stores.FromOption = None,
    as_json: JsonOption = False,
    file: FileOption = None,
) -> None:
    """Prove again that backups restore.

    Each is restored into a temporary server and compared. Exit code 1 when one does not restore.
    """
    from atalaia.backup import service, site
    from atalaia.backup.model import State

    environment = prepare(file)
    if fast or origin:
        backup_stores.verify_places(site.of(environment), backups or (), origin, fast=fast, as_json=as_json)
        return
    with Teller() as teller:
        checked = service.verify(site.of(environment), backups or (), teller)
    if not checked and not as_json:
        raise InputError("there is no backup to verify", f"`{command_name()} backup now` makes one")
    print_backups(checked, as_json)
    if any(backup.state is not State.VERIFIED for backup in checked):
        raise typer.Exit(1)


def as_dict(backup: Backup) -> dict[str, Any]:
    """A backup for programs."""
    return {
        "id": backup.id,
        "server": backup.server,
        "state": backup.state.value,
        "kind": backup.kind,
        "folder": backup.folder,
        "parent": backup.parent,
        "started": backup.started.isoformat(),
        "finished": backup.finished.isoformat() if backup.finished else None,
        "server_version": backup.server_version,
        "client_version": backup.client_version,
        "size": backup.size,
        "raw_size": backup.raw_size,
        "rows": backup.rows,
        "sha256": backup.sha256,
        "keep": backup.keep,
        "error": backup.error,
        "copies": backup_stores.copies_of(backup),
        "verifications": [
            {"at": v.at.isoformat(), "passed": v.passed, "seconds": round(v.seconds, 3), "detail": v.detail}
            for v in backup.verifications
        ],
    }


def print_backups(backups: list[Backup], as_json: bool) -> None:
    """A table of backups, or JSON."""
    if as_json:
        print_json([as_dict(backup) for backup in backups])
        return
    rows = []
    for b in backups:
        colour = _COLOURS[b.state.value]
        proof = next((v for v in reversed(b.verifications) if v.passed), None)
        rows.append(
            [
                b.id,
                b.server,
                "incremental" if b.parent else b.kind,
                f"[{colour}]{b.state.value}[/{colour}]",
                f"{b.started:%Y-%m-%d %H:%M:%S}Z",
                show_size(b.size) if b.size else "-",
                str(b.rows) if b.contents and b.kind != "physical" else "-",
                f"in {proof.seconds:.1f} s" if proof else "-",
                b.sha256[:12] or "-",
            ]
        )
    columns = ("BACKUP", "SERVER", "KIND", "STATE", "STARTED", "SIZE", "ROWS", "RESTORED", "SHA-256")
    console().print(table(columns, rows))
    for b in backups:
        if b.error:
            console().print(f"{b.id}: {b.error}", markup=False)
        for copy in b.copies:
            if copy.problem:
                console().print(f"{b.id}: NOT in {copy.repository}: {copy.problem}", markup=False)
