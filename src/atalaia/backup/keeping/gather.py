"""Looks at what an environment's backups are: catalogue, runs, service, streaming, and, when asked, repositories."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from atalaia.backup import catalogue
from atalaia.backup.keeping import runs
from atalaia.backup.keeping.facts import Facts, Reason, Streaming
from atalaia.backup.keeping.guard import busy
from atalaia.backup.keeping.schedule import jobs
from atalaia.backup.model import Backup
from atalaia.environment.errors import AtalaiaError
from atalaia.environment.load import Environment
from atalaia.runtime.process import Process
from atalaia.runtime.zone import local_zone

if TYPE_CHECKING:
    from atalaia.backup.vault.keys import Keyring
    from atalaia.backup.vault.place import Place

SERVICE = "backup"
"""The name of the supervisor's service."""


def gather(environment: Environment, checked: Sequence[Reason] = (), now: datetime | None = None) -> Facts:
    """The facts of now. Never raises for what is wrong with backups: that is one of the facts.

    `checked`: what `check` found.
    """
    settings = environment.settings.backups
    servers = tuple(environment.settings.servers)
    backups: tuple[Backup, ...] = ()
    problem = None
    try:
        backups = tuple(catalogue.list_backups(environment.state.backup_catalogue))
        copies = _copies(environment)
    except AtalaiaError as error:
        problem, copies = Reason("catalogue", "", error.what, error.remedy), ()
    ran = runs.read(environment.state.backup_runs)
    if ran.problem:
        remedy = "remove it; the schedule begins anew"
        checked = [*checked, Reason("schedule", "", ran.problem, remedy)]
    return Facts(
        now=now or datetime.now(UTC),
        settings=settings,
        servers=servers,
        backups=backups,
        problem=problem,
        jobs=tuple(jobs(settings.schedule, servers)),
        runs=ran.last,
        service=Process.read(environment.state.run / f"{SERVICE}.json") is not None,
        busy=frozenset(server for server in servers if busy(environment.state.run, server)),
        copies=copies,
        wal={server: found for server in servers if (found := _streaming(environment, server))},
        checked=tuple(checked),
        zone=local_zone(),
    )


def check(environment: Environment, backups: Sequence[Backup]) -> list[Reason]:
    """Whether the repositories answer, and the keys open the oldest and the newest usable backup of each server."""
    from atalaia.backup.site import place_of
    from atalaia.backup.vault import keys

    usable: dict[str, list[Backup]] = {}
    for backup in backups:
        if backup.usable:
            usable.setdefault(backup.server, []).append(backup)
    ends = [one for own in usable.values() for one in {backup.id: backup for backup in (own[0], own[-1])}.values()]
    file = environment.backup_keys
    try:
        keyring = keys.load(file) if file.is_file() else None
        places = [place_of(address, environment.settings.backups) for address in environment.repositories]
    except AtalaiaError as error:
        return [Reason("key", "", error.what, error.remedy)]
    return [reason for place in places for reason in _check(place, place is places[0], ends, keyring, file)]


def _check(place: Place, first: bool, backups: Sequence[Backup], keyring: Keyring | None, file: Path) -> list[Reason]:
    from atalaia.backup.vault.keys import WrongKey
    from atalaia.backup.vault.place import Missing, PlaceError
    from atalaia.backup.vault.reader import look

    found = []
    for backup in backups:
        noted = {copy.repository: copy.problem for copy in backup.copies}
        if noted.get(place.address, "" if first else "not there"):
            continue  # that it is not there is known already
        try:
            sealed = look(place, backup.folder).encryption
            if sealed and keyring is None:
                text = f"{backup.id} is encrypted, and there is no key file {file}"
                raise WrongKey(text, "put the copy that was kept elsewhere there: `atalaia backup key import FILE`")
            if sealed and keyring:
                keyring.unwrap(sealed, backup.id)
        except WrongKey as error:
            found.append(Reason("key", backup.server, error.what, error.remedy))
        except Missing as error:
            found.append(Reason("missing", backup.server, error.what, f"`atalaia backup verify {backup.id}` says more"))
        except PlaceError as error:
            return [*found, Reason("repository", "", error.what, error.remedy)]
        except AtalaiaError as error:
            found.append(Reason("damaged", backup.server, error.what, error.remedy))
    return found


def _copies(environment: Environment) -> tuple[str, ...]:
    """How the further repositories are named in the catalogue."""
    if not environment.repositories[1:]:
        return ()
    from atalaia.backup.site import place_of

    settings = environment.settings.backups
    return tuple(place_of(address, settings).address for address in environment.repositories[1:])


def _streaming(environment: Environment, server: str) -> Streaming | None:
    """What the receiver of a server's WAL wrote down; None when there never was one."""
    path: Path = environment.state.run / f"wal-{server}.json"
    try:
        data = json.loads(path.read_text())
        covered = datetime.fromisoformat(data["covered_until"]) if data.get("covered_until") else None
        alive = Process(int(data["pid"]), int(data["started"])).alive()
        problem = str(data.get("problem", "")) if alive else "nobody streams its WAL"
        remedy = str(data.get("remedy", "")) if alive else "`atalaia up` starts the backup service"
        return Streaming(covered, problem, remedy, tuple(map(str, data.get("interruptions", ()))))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        return Streaming(problem=f"{path} cannot be read ({error})", remedy="`atalaia down`, then `atalaia up`")
