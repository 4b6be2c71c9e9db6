"""backup restore --over: the old server goes on until the new one is whole, then the two change places."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from atalaia.cli.common import command_name, print_json
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.load import Environment

if TYPE_CHECKING:
    from atalaia.backup.model import Progress, Restored
    from atalaia.backup.restoring.plan import Plan
    from atalaia.backup.site import Site
    from atalaia.postgres.cluster import Cluster


def agreed(server: Cluster, planned: Plan, typed: str | None) -> None:
    """Raise InputError unless the server's name was typed: as an option, or now on a terminal."""
    from atalaia.backup.restoring import over

    over.check(server, planned.backup)
    if typed is None and sys.stdin.isatty() and sys.stderr.isatty():
        print(
            f"{server.name} ({server.directory}) is replaced by {planned.backup.id}.\n"
            f"What was written to it since then stays only in the directory that is moved aside.\n"
            f"Type its name to go on: ",
            end="",
            file=sys.stderr,
            flush=True,
        )
        typed = sys.stdin.readline().strip()
    if typed != server.name:
        raise InputError(
            f"{server.name} is not replaced: its name was {'not typed' if not typed else f'typed as {typed!r}'}",
            f"see what would happen with --preview, then add --yes-replace {server.name}",
        )


@dataclass(frozen=True, slots=True)
class Swapped:
    """A server that was replaced: `aside` is where the old one lies, None when there was none; `back` leads to it."""

    done: Restored
    server: Cluster
    aside: Path | None
    running: bool
    back: tuple[str, ...]


def replace_server(environment: Environment, site: Site, planned: Plan, server: Cluster, tell: Progress) -> Swapped:
    """Make the new server, let it take the old one's place, and see it start; otherwise the old one comes back.

    Raises AtalaiaError.
    """
    from atalaia.backup.restoring import over
    from atalaia.supervisor import launch

    me = command_name()
    done = over.prepare(site, planned.backup, planned.wanted, server, tell)
    supervised = launch.running(environment) is not None
    tell(f"stopping {server.name}")
    with launch.held(environment, server.name):
        aside = over.swap(server)
    if supervised:
        tell(f"starting {server.name}")
        if problem := launch.await_ready(environment, server.name):
            with launch.held(environment, server.name):
                failed = over.swap_back(server, aside)
            raise AtalaiaError(
                f"the restored {server.name} did not start ({problem}), and the old one is in its place again",
                f"the restored one lies in {failed}: see its log there",
            )
    there = aside.is_dir()
    back = (
        f"{me} down",
        shlex.join(["mv", str(server.directory), f"{server.directory}.restored"]),
        shlex.join(["mv", str(aside), str(server.directory)]),
        f"{me} up",
        f"{me} backup now {server.name} --kind physical",
    )
    return Swapped(done, server, aside if there else None, supervised, back if there else ())


def print_swapped(swapped: Swapped, *, as_json: bool) -> None:
    """Tell what was done, and how to go back."""
    me, server = command_name(), swapped.server
    if as_json:
        print_json(
            {
                "backup": swapped.done.backup.id,
                "server": server.name,
                "directory": str(server.directory),
                "old": str(swapped.aside) if swapped.aside else None,
                "seconds": swapped.done.seconds,
                "running": swapped.running,
                "back": list(swapped.back),
            }
        )
        return
    print(f"restored {swapped.done.backup.id} over {server.name} in {swapped.done.seconds:.1f} s")
    if not swapped.running:
        print(f"  {me} up")
    print(f"make a new backup of it: {me} backup now {server.name}")
    if swapped.aside:
        print(f"the old server lies in {swapped.aside}; delete it when you need it no more. To go back to it:")
        for command in swapped.back:
            print(f"  {command}")
