"""What `atalaia backup restore` was asked: which moment, which part, where to."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atalaia.cli.common import command_name
from atalaia.environment.errors import InputError
from atalaia.environment.load import Environment

if TYPE_CHECKING:
    from atalaia.backup.model import Backup, Progress, Target, Wanted
    from atalaia.backup.restoring.into import Into
    from atalaia.backup.site import Site
    from atalaia.postgres.cluster import Cluster


def _option(flag: str, text: str, panel: str | None = None, metavar: str | None = None) -> Any:
    return typer.Option(flag, help=text, rich_help_panel=panel, metavar=metavar, show_default=False)


_MOMENT, _PART, _PLACE = "Which moment (physical backups and archived WAL)", "Which part", "Where to"
Which = Annotated[
    str | None,
    typer.Argument(help="As `backup list` names it (default: the newest that serves).", show_default=False),
]
OfServer = Annotated[str | None, _option("--server", "The newest backup of this server that serves.")]
At = Annotated[str | None, _option("--at", "As it was then, such as 2026-11-23T14:05:07Z.", _MOMENT, "TIME")]
Lsn = Annotated[str | None, _option("--lsn", "As it was at this place in the WAL.", _MOMENT)]
Point = Annotated[str | None, _option("--name", "As it was at this named restore point.", _MOMENT)]
Before = Annotated[
    str | None, _option("--before", "Just before the newest logged statement with this text.", _MOMENT, "TEXT")
]
Latest = Annotated[bool, _option("--latest", "To the end of the archived WAL.", _MOMENT)]
Timeline = Annotated[str, _option("--timeline", "latest, current, or a number.", _MOMENT)]
Databases = Annotated[list[str] | None, _option("--database", "Only this database; may be repeated.", _PART)]
Schemas = Annotated[list[str] | None, _option("--schema", "Only this schema, with --into.", _PART)]
Tables = Annotated[list[str] | None, _option("--table", "Only this table, with --into.", _PART, "SCHEMA.TABLE")]
To = Annotated[Path | None, _option("--to", "A new server's directory (default: below .atalaia/restored).", _PLACE)]
Start = Annotated[bool, _option("--start", "Leave the new server running.", _PLACE)]
IntoServer = Annotated[
    str | None, _option("--into", "Into a running server; nothing is overwritten.", _PLACE, "SERVER[/DATABASE]")
]
Renamed = Annotated[
    list[str] | None, _option("--rename-schema", "Put a schema's objects under another name.", _PLACE, "OLD=NEW")
]
Over = Annotated[str | None, _option("--over", "In place of this server, which is moved aside.", _PLACE, "SERVER")]
Replace = Annotated[str | None, _option("--yes-replace", "Its name again: it may be replaced.", _PLACE, "SERVER")]
Preview = Annotated[bool, _option("--preview", "Tell what would happen, and change nothing.")]
Jobs = Annotated[int | None, typer.Option("--jobs", help="How much at a time.", min=1, max=64, show_default=False)]
From = Annotated[str | None, _option("--from", "Read this repository alone (default: all).", None, "ADDRESS")]


def target_of(
    environment: Environment,
    server: str | None,
    given: dict[str, str | None],
    latest: bool,
    timeline: str,
    tell: Progress,
) -> Target | None:
    """The moment that is asked for: one of `at`, `lsn`, `name`, `before`, or the end of WAL. Raises InputError."""
    from atalaia.backup.wal import targets

    asked = [name for name, value in given.items() if value is not None]
    if len(asked) + latest > 1:
        raise InputError(
            f"more than one moment is given: {', '.join(f'--{name}' for name in [*asked, *['latest'] * latest])}",
            "give one of them",
        )
    if not asked and not latest:
        return None
    if text := given["before"]:
        return _before(environment, server, text, tell)
    return targets.target(time=given["at"], lsn=given["lsn"], name=given["name"], timeline=timeline)


def _before(environment: Environment, server: str | None, text: str, tell: Progress) -> Target:
    from atalaia.backup.wal import targets
    from atalaia.backup.wal.statement import before_statement, caught_up
    from atalaia.cli.connection import client_of

    if server is None:
        raise InputError("--before looks for a statement of one server, and none was named", "name it with --server")
    with closing(client_of(environment)) as client:
        if server in environment.settings.servers and not caught_up(client, cluster_of(environment, server)):
            tell(f"{server} does not run, or its log is not collected: its newest lines may be missing")
        target, entry = before_statement(client, server, text)
    tell(f"the statement: {entry.line.strip()}")
    tell(f"restoring to {targets.describe(target)}")
    return target


def wanted_of(
    site: Site,
    target: Target | None,
    databases: list[str] | None,
    schemas: list[str] | None,
    tables: list[str] | None,
    jobs: int | None,
) -> Wanted:
    """The restore that is asked for."""
    from atalaia.backup.model import Selection, Wanted

    selection = Selection(*(tuple(dict.fromkeys(names or ())) for names in (databases, schemas, tables)))
    return Wanted(target, selection, jobs or site.settings.jobs)


def cluster_of(environment: Environment, name: str) -> Cluster:
    """A server of the environment. Raises InputError when there is none of that name, or nothing was ever started."""
    from atalaia.cli.backups import clusters_of

    return clusters_of(environment, [name])[0]


def into_of(environment: Environment, text: str | None, renamed: list[str] | None) -> Into | None:
    """Where `--into SERVER[/DATABASE]` puts it. Raises InputError."""
    from atalaia.backup.restoring.into import Into

    names = {}
    for one in renamed or ():
        old, sign, new = one.partition("=")
        if not (sign and old and new) or old == new:
            raise InputError(f"--rename-schema {one!r} is not OLD=NEW", "such as --rename-schema public=rescued")
        names[old] = new
    if text is None:
        if names:
            raise InputError("--rename-schema is for --into", f"`{command_name()} backup restore --help`")
        return None
    server, _, database = text.partition("/")
    return Into(cluster_of(environment, server), database, names)


def room_of(
    site: Site, backup: Backup, wanted: Wanted, to: Path | None, into: Into | None, over: Cluster | None
) -> Path:
    """Where the most is written."""
    from atalaia.backup.restore import directory_of
    from atalaia.backup.restoring.over import fresh_directory

    if into:  # through a temporary server, or straight into that one
        return into.cluster.directory if backup.kind == "logical" else site.temporary
    if over:
        return fresh_directory(over)
    return to.resolve() if to else directory_of(site, backup, wanted)
