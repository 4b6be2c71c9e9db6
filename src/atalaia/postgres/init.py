"""Looks at a data directory before anything touches it, and initialises one that does not exist yet."""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from atalaia.environment.errors import AtalaiaError
from atalaia.environment.state import sync_directory, write_atomically
from atalaia.postgres import settings
from atalaia.postgres.cluster import SUPERUSER, Cluster
from atalaia.postgres.places import make
from atalaia.postgres.tools import run
from atalaia.runtime.process import Process

MARKER = "unfinished"


class Condition(Enum):
    """What a server's data directory is."""

    ABSENT = "absent"
    READY = "ready"
    HALF_INITIALISED = "half initialised"
    WRONG_MAJOR = "wrong major"


@dataclass(frozen=True, slots=True)
class Inspection:
    """The condition of a data directory; `found` is the wrong major version, or a reason."""

    condition: Condition
    found: str = ""


def inspect(cluster: Cluster) -> Inspection:
    """What the server's data directory is, without changing it."""
    data = cluster.data
    if not data.is_dir() or not any(data.iterdir()):
        return Inspection(Condition.ABSENT)
    marker = cluster.directory / MARKER
    if marker.exists():
        return Inspection(Condition.HALF_INITIALISED, f"{_what(marker)} did not finish")
    version = data / "PG_VERSION"
    if not version.is_file():
        return Inspection(Condition.HALF_INITIALISED, "it is not empty and has no PG_VERSION")
    found = version.read_text().strip()
    if found != str(cluster.installation.major):
        return Inspection(Condition.WRONG_MAJOR, found)
    if not (data / "global" / "pg_control").is_file():
        return Inspection(Condition.HALF_INITIALISED, "global/pg_control is missing")
    return Inspection(Condition.READY)


def require(cluster: Cluster, wanted: Condition) -> None:
    """Raise AtalaiaError, telling what to do, unless the data directory is in the condition `wanted`."""
    seen = inspect(cluster)
    if seen.condition is wanted:
        return
    where = f"the data directory of {cluster.name}, {cluster.data},"
    if seen.condition is Condition.WRONG_MAJOR:
        raise AtalaiaError(
            f"{where} is of PostgreSQL {seen.found}, but the server's version is {cluster.installation.major}",
            f"set `version = {seen.found}` for it, or move {cluster.directory} away to begin an "
            "empty server; "
            "to change the version of one with data, restore a backup of it into the new server",
        )
    if seen.condition is Condition.HALF_INITIALISED:
        marker = cluster.directory / MARKER
        if Process.read(marker):
            raise AtalaiaError(
                f"{where} is being prepared by another process: {_what(marker)}", "wait until it has ended"
            )
        raise AtalaiaError(
            f"{where} was only half initialised: {seen.found}",
            f"if you know of no data in it: `rm -rf {shlex.quote(str(cluster.directory))}`, then try again",
        )
    if seen.condition is Condition.READY:
        raise AtalaiaError(f"{where} holds a server already", "nothing was changed; choose another place")
    raise AtalaiaError(f"{where} does not exist", "`atalaia up` initialises it")


def initialise(cluster: Cluster, *, durable: bool = True) -> None:
    """Make a new data directory: SCRAM, UTF-8, data checksums, settings written; fsynced if `durable`.

    Raises AtalaiaError when there is one already, and with what initdb said when it fails.
    """
    make(cluster.directory, None, cluster.account)
    require(cluster, Condition.ABSENT)
    mark(cluster, "initdb")
    make(cluster.data, cluster.account, mode=0o700)
    make(cluster.log, cluster.account)
    # C.UTF-8 sorts by code point like C, but knows upper and lower case; old systems lack it.
    said = _initdb(cluster, "C.UTF-8", durable)
    if said and "invalid locale" in said:
        said = _initdb(cluster, "C", durable)
    if said:
        unmark(cluster)  # initdb has removed what it made
        raise AtalaiaError(
            f"initdb for {cluster.name} failed in {cluster.data}:\n    {said}", "correct that, then try again"
        )
    configuration = (cluster.data / "postgresql.conf").read_text()
    settings.write_for(
        cluster.data / "postgresql.conf", f"{configuration}\ninclude '{settings.CONF}'\n", cluster.account
    )
    settings.write_for(cluster.data / "pg_hba.conf", settings.hba_block(cluster), cluster.account)
    settings.write(cluster)
    unmark(cluster)


def mark(cluster: Cluster, what: str) -> None:
    """Note durably that `what` is under way in this server's directory, and in which process."""
    process = Process.of(os.getpid())
    assert process
    write_atomically(cluster.directory / MARKER, json.dumps({"what": what} | asdict(process)) + "\n")


def unmark(cluster: Cluster) -> None:
    """Note durably that what `mark` noted has been brought to its end."""
    (cluster.directory / MARKER).unlink(missing_ok=True)
    sync_directory(cluster.directory)


def _what(marker: Path) -> str:
    try:
        note = json.loads(marker.read_text())
        return f"{note['what']} (process {note['pid']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "its preparation"


def _initdb(cluster: Cluster, locale: str, durable: bool) -> str:
    """What initdb complains of; empty when it has succeeded."""
    # The password travels in memory: the servers' account cannot read our secrets, and no second file may
    # be left.
    descriptor = os.memfd_create("atalaia")
    try:
        os.write(descriptor, cluster.password_file.read_text().strip().encode() + b"\n")
        done = run(
            [
                cluster.installation.program("initdb"),
                f"--pgdata={cluster.data.resolve()}",
                f"--username={SUPERUSER}",
                f"--pwfile=/proc/self/fd/{descriptor}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                f"--locale={locale}",
                "--data-checksums",
                *(() if durable else ("--no-sync",)),
            ],
            account=cluster.account,
            pass_fds=(descriptor,),
        )
    finally:
        os.close(descriptor)
    return (done.stderr.strip() or f"exit status {done.returncode}") if done.returncode else ""
