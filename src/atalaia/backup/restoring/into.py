"""Takes databases, schemas or tables out of a backup and puts them into a running server; nothing is overwritten."""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import psycopg

from atalaia.backup.logical.archive import Archive, open_archive
from atalaia.backup.logical.load import load_as
from atalaia.backup.logical.sessions import Refused
from atalaia.backup.logical.source import Stored
from atalaia.backup.model import Backup, Progress, Selection, Wanted, logfmt
from atalaia.backup.restoring import marks
from atalaia.backup.restoring.copying import (
    copy_of,
    create_database,
    drop_database,
    missing_roles,
    refuse_older,
    transfer,
    without_roles,
)
from atalaia.backup.restoring.landing import Landed, land
from atalaia.backup.restoring.sources import Running
from atalaia.backup.site import Site
from atalaia.backup.sources import opened
from atalaia.backup.staging import staging
from atalaia.backup.vault.reader import Reader
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect, said

_log = logging.getLogger("atalaia.backup")


@dataclass(frozen=True, slots=True)
class Into:
    """Where a selection goes: `database` empty is the name that it had; `renamed` schemas get other names."""

    cluster: Cluster
    database: str = ""
    renamed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Put:
    """What was put into a server: each database, whether it was made for it, rows of each table taken by name."""

    backup: Backup
    databases: Mapping[str, bool]
    tables: Mapping[str, int]
    remarks: tuple[str, ...]


def check(backup: Backup, wanted: Wanted, into: Into) -> tuple[tuple[str, str], ...]:
    """Which database of the backup goes into which of the server, as far as that can be said without the backup.

    Raises InputError, before anything is read, for what cannot be asked and for databases that are there already.
    """
    selection = wanted.selection
    names = selection.databases
    parts = bool(selection.schemas or selection.tables)
    if parts and len(names) != 1:
        raise InputError(
            "schemas and tables are of one database, and "
            + (f"{len(names)} were named" if names else "none was named"),
            f"name it with --database; the backup has: {', '.join(_databases(backup)) or 'see `backup list --json`'}",
        )
    if not names:
        raise InputError(
            "a whole server does not go into another",
            "name databases with --database, or restore into a new server (--to) or over the old one (--over)",
        )
    if (known := _databases(backup)) and not wanted.target:  # one made after the backup may be in the WAL
        for name in names:
            if name not in known:
                raise InputError(f"{backup.id} has no database {name!r}", f"it has: {', '.join(known)}")
    if into.database and len(names) > 1:
        raise InputError(
            f"{len(names)} databases cannot go into one", f"give --into {into.cluster.name} alone, or one --database"
        )
    if into.renamed and not parts:
        raise InputError("--rename-schema is for --schema and --table", "a database goes as it is, under any new name")
    try:
        with connect(into.cluster, autocommit=True) as connection:
            there = {row[0] for row in connection.execute("SELECT datname FROM pg_database").fetchall()}
        there -= set(marks.abandoned(into.cluster))
    except psycopg.Error as error:
        raise AtalaiaError(
            f"{into.cluster.name} takes no connection: {said(error)}",
            "start it with `atalaia up`",
        ) from error
    pairs = tuple((name, into.database or name) for name in names)
    if not parts:
        for _, new in pairs:
            if new in there:
                raise InputError(
                    f"{into.cluster.name} has a database {new!r} already; nothing is overwritten",
                    f"nothing was changed; give another name: --into {into.cluster.name}/NEW_NAME",
                )
    return pairs


def put(site: Site, backup: Backup, wanted: Wanted, into: Into, progress: Progress) -> Put:
    """Take the selection out of a backup, as of the wanted moment, and put it into the server.

    All of a database or of the named schemas and tables, or nothing. Raises InputError for what is there already and
    for what is not in the backup, AtalaiaError when it cannot be done.
    """
    pairs = check(backup, wanted, into)
    marks.sweep(into.cluster, progress)
    reader = opened(site, backup, progress)
    made: dict[str, bool] = {}
    tables: dict[str, int] = {}
    remarks: list[str] = []
    if backup.kind == "logical" and (wanted.selection.schemas or wanted.selection.tables):
        progress(f"{backup.id}: taking {describe(wanted.selection)} out of it")
        (pair,) = pairs
        created, landed = _from_members(site, backup, reader, wanted.selection, pair, into, progress)
        made, tables, remarks = {pair[1]: created}, dict(landed.tables), list(landed.remarks)
        return _told(Put(backup, made, tables, tuple(dict.fromkeys(remarks))), into)
    if backup.kind == "logical":
        progress(f"{backup.id}: taking {describe(wanted.selection)} out of it")
        archive = open_archive(reader)
        for old, new in pairs:
            remarks += _whole(site, backup, archive, old, new, into.cluster, wanted.jobs, progress)
            made[new] = True
        return _told(Put(backup, made, tables, tuple(dict.fromkeys(remarks))), into)
    progress(f"{backup.id}: taking {describe(wanted.selection)} out of it, through a temporary server")
    with copy_of(site, backup, reader, wanted, progress) as source:
        for old, new in pairs:
            make = partial(create_database, source, old, into.cluster, new)
            with _database(make, into.cluster, new) as created:
                made[new] = created
                if wanted.selection.schemas or wanted.selection.tables:
                    with tempfile.TemporaryDirectory(prefix="atalaia-") as folder:
                        taken = Running(source, old, Path(folder) / "schema")
                        landed = land(taken, into.cluster, new, wanted.selection, progress, into.renamed)
                    tables |= landed.tables
                    remarks += landed.remarks
                else:
                    remarks += transfer(source, old, into.cluster, new, _size(source, old), progress)
    return _told(Put(backup, made, tables, tuple(dict.fromkeys(remarks))), into)


def _told(put: Put, into: Into) -> Put:
    databases, tables = " ".join(put.databases), len(put.tables)
    _log.info(logfmt("backup_put", backup=put.backup.id, server=into.cluster.name, databases=databases, tables=tables))
    return put


def _from_members(
    site: Site,
    backup: Backup,
    reader: Reader,
    selection: Selection,
    pair: tuple[str, str],
    into: Into,
    progress: Progress,
) -> tuple[bool, Landed]:
    """Schemas and tables of a logical backup: only their own members are read, and no server is started."""
    old, new = pair
    with staging(site.temporary) as folder:
        source = Stored(open_archive(reader), old, site.installation(backup.major), folder / "schema")
        with _database(partial(source.create, into.cluster, new), into.cluster, new) as created:
            return created, land(source, into.cluster, new, selection, progress, into.renamed)


def _whole(
    site: Site,
    backup: Backup,
    archive: Archive,
    old: str,
    new: str,
    cluster: Cluster,
    jobs: int,
    progress: Progress,
) -> list[str]:
    """A database of a logical backup, in parallel, without a server between; remarks."""
    refuse_older(backup.major, old, cluster)
    with staging(site.temporary) as folder:
        source = Stored(archive, old, site.installation(backup.major), folder / "schema")
        missing = missing_roles([*source.roles, *(entry.owner for entry in source.entries if entry.owner)], cluster)
        try:
            with (
                _database(partial(source.create, cluster, new), cluster, new),
                marks.lent(cluster, new, missing) as used,
            ):
                load_as(archive, old, cluster, new, folder / "load", jobs, progress)
        except Refused as error:
            raise AtalaiaError(error.what, "correct that and try again; what had been made was removed") from error
        except psycopg.Error as error:
            raise AtalaiaError(
                f"{old} could not be put into {new} of {cluster.name}: {said(error)}",
                "correct that and try again; what had been made was removed",
            ) from error
    return without_roles(used)


def describe(selection: Selection) -> str:
    """A selection in words."""
    named = (("database", selection.databases), ("schema", selection.schemas), ("table", selection.tables))
    return ", ".join(f"{what} {name}" for what, names in named for name in names) or "everything"


@contextlib.contextmanager
def _database(make: Callable[[], None], cluster: Cluster, new: str) -> Iterator[bool]:
    """The database that takes it, made when there is none of that name, and removed again when that fails."""
    with connect(cluster, autocommit=True) as connection:
        there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (new,)).fetchone()
    if there:
        yield False
        return
    make()
    try:
        marks.mark(cluster, new)
        yield True
        marks.unmark(cluster, new)
    except BaseException:
        drop_database(cluster, new)
        raise


def _size(source: Cluster, database: str) -> int:
    with connect(source, database, autocommit=True) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(pg_relation_size(oid)), 0)::bigint FROM pg_class WHERE relkind IN ('r', 't', 'm')"
        ).fetchone()
    return int(row[0]) if row else 0


def _databases(backup: Backup) -> list[str]:
    return sorted(name for name in backup.contents.get("databases", {}) if name != "template1")
