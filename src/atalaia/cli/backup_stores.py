"""backup copy, rebuild, key: repositories, their copies and their keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from atalaia.cli.common import FileOption, JsonOption, command_name, console, print_json, table

if TYPE_CHECKING:
    from atalaia.backup.model import Backup
    from atalaia.backup.site import Site

_KEEP_ELSEWHERE = "without it no encrypted backup can be restored"
FromOption = Annotated[
    str | None,
    typer.Option("--from", metavar="ADDRESS", help="This repository alone (default: all).", show_default=False),
]


def add(group: typer.Typer) -> None:
    """Add these commands to the group `backup`."""
    group.command("copy")(copy)
    group.command("rebuild")(rebuild)
    keys = typer.Typer(no_args_is_help=True, help="Keys that backups are encrypted with.")
    commands = (
        ("new", new),
        ("list", list_),
        ("show", show),
        ("rotate", rotate),
        ("import", import_),
        ("check", check),
    )
    for name, command in commands:
        keys.command(name)(command)
    group.add_typer(keys, name="key")


def _site(file: Path | None) -> Site:
    from atalaia.backup import site
    from atalaia.cli.backups import prepare

    return site.of(prepare(file))


def copy(
    backups: Annotated[list[str] | None, typer.Argument(help="Backups (default: all).", show_default=False)] = None,
    as_json: JsonOption = False,
    file: FileOption = None,
) -> None:
    """Put backups into the repositories that lack them.

    Named ones are read again everywhere; what is damaged in one repository is mended from another.
    """
    from atalaia.backup import copies
    from atalaia.cli.backups import tell

    place = _site(file)
    done = copies.copy_backups(place, tell, backups or ())
    servers = sorted({backup.server for backup in done})
    problems = [problem for server in servers for problem in copies.copy_wal(place, server, tell).values()]
    if as_json:
        print_json([{"id": backup.id, "copies": copies_of(backup)} for backup in done])
    else:
        where = ", ".join(one.address for one in place.copies) or "no `copies` in [backups]"
        print(f"{len(done)} backups; further repositories: {where}")
    if problems or any(one.problem for backup in done for one in backup.copies):
        raise typer.Exit(1)


def copies_of(backup: Backup) -> list[dict[str, Any]]:
    """A backup's copies for programs."""
    return [{"repository": c.repository, "at": c.at.isoformat(), "problem": c.problem} for c in backup.copies]


def verify_places(place: Site, backups: Sequence[str], origin: str | None, *, fast: bool, as_json: bool) -> None:
    """`backup verify` of checksums alone, or of what one repository has."""
    from atalaia.backup import service, sources, verify
    from atalaia.cli.backups import tell

    wrong: dict[str, dict[str, str]] = {}
    for backup in service.chosen(place, backups, tell):
        if fast:
            wrong[backup.id] = verify.check(sources.only(place, origin) if origin else place, backup, tell)
        elif origin:
            problem = verify.verify_copy(place, backup, origin, tell)
            wrong[backup.id] = {origin: problem} if problem else {}
    if as_json:
        print_json([{"id": name, "problems": problems} for name, problems in wrong.items()])
    elif not wrong:
        print("there is no backup to verify")
    if any(wrong.values()):
        raise typer.Exit(1)


def rebuild(origin: FromOption = None, as_json: JsonOption = False, file: FileOption = None) -> None:
    """Make a lost catalogue again from the repositories.

    On a new machine atalaia.toml, the repository and the key file are enough.
    """
    from atalaia.backup import rebuild as rebuilding
    from atalaia.backup import sources
    from atalaia.cli.backups import print_backups, tell

    place = _site(file)
    if origin:
        place = sources.only(place, origin)
    done = rebuilding.rebuild(place, tell)
    if not as_json:
        print(f"{len(done.found)} backups found, {done.known} were known, {len(done.problems)} could not be read")
    if done.found or as_json:
        print_backups(done.found, as_json)
    if done.problems:
        raise typer.Exit(1)


def new(file: FileOption = None) -> None:
    """Make the key file with a first key."""
    from atalaia.backup import rotation

    place = _site(file)
    key = rotation.new(place.key_file)
    print(f"made the key {key.id} in {place.key_file}; keep a copy elsewhere: {_KEEP_ELSEWHERE}")
    if not place.settings.encryption:
        print("set `encryption = true` in [backups] of atalaia.toml: new backups are encrypted then")


def list_(as_json: JsonOption = False, file: FileOption = None) -> None:
    """Show which keys there are, oldest first; the last seals new backups."""
    from atalaia.backup.vault import keys

    ring = keys.load(_site(file).key_file)
    if as_json:
        print_json([{"id": k.id, "created": k.created.isoformat(), "current": k is ring.current} for k in ring.keys])
        return
    rows = [[k.id, f"{k.created:%Y-%m-%d %H:%M:%S}Z", "current" if k is ring.current else ""] for k in ring.keys]
    console().print(table(("KEY", "CREATED", ""), rows))


def show(file: FileOption = None) -> None:
    """Print the key file with its secrets, to be kept elsewhere."""
    from atalaia.backup.vault import keys

    path = _site(file).key_file
    keys.load(path)
    print(path.read_text(), end="")


def rotate(
    rewrap: Annotated[bool, typer.Option("--rewrap", help="Put all backups under the new key too.")] = False,
    only_rewrap: Annotated[
        bool, typer.Option("--rewrap-only", help="Put all backups under the current key, without a new one.")
    ] = False,
    file: FileOption = None,
) -> None:
    """Add a key, which seals new backups from now on; earlier keys stay."""
    from atalaia.backup import rotation
    from atalaia.cli.backups import tell

    place = _site(file)
    if not only_rewrap:
        key = rotation.rotate(place.key_file)
        print(f"the key {key.id} seals new backups from now on; copy the key file elsewhere again: {_KEEP_ELSEWHERE}")
    if rewrap or only_rewrap:
        done = rotation.rewrap(place, tell)
        print(f"{done.changed} backups were put under the current key, {done.unchanged} needed nothing")
        if done.problems:
            print(f"{len(done.problems)} could not be; `{command_name()} backup key rotate --rewrap-only` tries again")
            raise typer.Exit(1)


def import_(
    other: Annotated[Path, typer.Argument(metavar="FILE", help="A key file that was kept elsewhere.")],
    file: FileOption = None,
) -> None:
    """Add the keys of another key file."""
    from atalaia.backup import rotation

    place = _site(file)
    added = rotation.join(place.key_file, other)
    print(f"{len(added)} keys added to {place.key_file}" + "".join(f"\n  {key.id}" for key in added))


def check(as_json: JsonOption = False, file: FileOption = None) -> None:
    """See that the keys open the oldest and the newest backup of each server in each repository."""
    from atalaia.backup import rotation

    found = rotation.check(_site(file))
    if as_json:
        print_json([{"repository": c.repository, "backup": c.backup, "problem": c.problem} for c in found])
    else:
        for one in found:
            print(f"{one.repository} {one.backup}: {one.problem or 'opens'}")
        if not found:
            print("there are no backups in any repository")
    if any(one.problem for one in found):
        raise typer.Exit(1)
