"""A backup as a temporary server, to take a part of it; and whole databases of that into another server."""

from __future__ import annotations

import contextlib
import logging
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO

import psycopg
from psycopg import sql

from atalaia.backup.kinds import KINDS
from atalaia.backup.model import Backup, Progress, Selection, Wanted, advance, logfmt
from atalaia.backup.site import Site
from atalaia.backup.vault.reader import Reader
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.environment.state import write_atomically
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect, environment_variables
from atalaia.postgres.temporary import FAST, own, private, running
from atalaia.postgres.tools import variables

_BLOCK = 1 << 20
_log = logging.getLogger("atalaia.backup")


@contextlib.contextmanager
def copy_of(site: Site, backup: Backup, reader: Reader, wanted: Wanted, progress: Progress) -> Iterator[Cluster]:
    """A private, running server that holds the backup at the wanted moment; gone at the end, whatever happens.

    Where the kind can, only what the selection needs is brought back. Raises AtalaiaError.
    """
    folder = own(site.temporary, site.account)
    try:
        cluster = Cluster(
            name="the temporary server",
            directory=folder,
            port=5432,
            listen=("127.0.0.1",),
            installation=site.installation(backup.major),
            account=site.account,
            settings={**FAST, **backup.settings},
            password_file=folder / "password",
        )
        write_atomically(cluster.password_file, secrets.token_urlsafe(24), mode=0o600)
        kind = KINDS[backup.kind]
        # A plain backup restores as a whole, the others by databases.
        names = () if backup.kind == "plain" else wanted.selection.databases
        wanted = replace(wanted, selection=Selection(names))
        kind.fill(site, backup, reader, cluster, wanted, progress)
        with private(cluster) as hidden, running(hidden, patience=5, unfinished=True):
            _refuse_dropped(hidden, wanted)
            yield hidden
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refuse_dropped(cluster: Cluster, wanted: Wanted) -> None:
    """DROP DATABASE removes the files before it commits: just before its commit there is only its name."""
    with connect(cluster, autocommit=True) as connection:
        found = connection.execute("SELECT datname FROM pg_database WHERE datconnlimit = -2").fetchall()
    for (name,) in found:
        if name in wanted.selection.databases:
            raise InputError(
                f"at that moment {name} was being dropped, and its files were gone already",
                "give a moment some transactions earlier, with --at",
            )


def create_database(source: Cluster, database: str, cluster: Cluster, name: str) -> None:
    """Create `name` in `cluster` with encoding and locale of the source's `database`.

    Raises InputError when there is no such database in the source, or one of that name already.
    """
    with connect(source, autocommit=True) as connection:
        found = connection.execute(
            "SELECT pg_encoding_to_char(encoding), datcollate, datctype FROM pg_database WHERE datname = %s",
            (database,),
        ).fetchone()
        known = connection.execute("SELECT datname FROM pg_database WHERE datallowconn ORDER BY 1").fetchall()
    if found is None:
        raise InputError(
            f"there is no database {database!r} in the backup", f"there are: {', '.join(row[0] for row in known)}"
        )
    statement = sql.SQL("CREATE DATABASE {} TEMPLATE template0 ENCODING {} LC_COLLATE {} LC_CTYPE {}")
    try:
        with connect(cluster, autocommit=True) as connection:
            connection.execute(statement.format(sql.Identifier(name), *found))
    except psycopg.errors.DuplicateDatabase as error:
        raise InputError(
            f"{cluster.name} has a database {name!r} already; nothing is overwritten",
            f"nothing was changed; give another name: --into {cluster.name}/NEW_NAME",
        ) from error
    except psycopg.Error as error:
        raise AtalaiaError(f"{name} could not be created in {cluster.name}: {error}", "see its log") from error


def drop_database(cluster: Cluster, name: str) -> None:
    """Remove what a restore that failed has made; what cannot be removed is told in the log."""
    try:
        with connect(cluster, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(name)))
    except psycopg.Error as error:
        _log.warning(logfmt("database_left", server=cluster.name, database=name, problem=error))


def transfer(source: Cluster, database: str, cluster: Cluster, name: str, size: int, progress: Progress) -> list[str]:
    """Everything of a database of `source` into `name` of `cluster`, which is empty, in one transaction; remarks.

    What roles own that the server does not know belongs to the superuser then. Raises AtalaiaError.
    """
    refuse_older(source.installation.major, database, cluster)
    missing = missing_roles(_roles(source), cluster)
    quoted = [sql.Identifier(role).as_string(None) for role in missing]
    before = "".join(f"CREATE ROLE {role};\n" for role in quoted)
    after = "".join(
        f"REASSIGN OWNED BY {role} TO CURRENT_USER;\nDROP OWNED BY {role};\nDROP ROLE {role};\n" for role in quoted
    )
    dump: list[str | Path] = [source.installation.program("pg_dump"), "--no-password"]
    psql: list[str | Path] = [
        cluster.installation.program("psql"),
        *("--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", "--single-transaction", "--file=-"),
    ]
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as told:
        reading = subprocess.Popen(
            dump,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            cwd="/",
            env=variables(environment_variables(source) | {"PGDATABASE": database}),
            start_new_session=True,
        )
        writing = subprocess.Popen(
            psql,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=told,
            cwd="/",
            env=variables(environment_variables(cluster) | {"PGDATABASE": name}),
            start_new_session=True,
        )
        try:
            assert reading.stdout
            assert writing.stdin
            done = 0
            with contextlib.suppress(BrokenPipeError):  # psql has stopped at an error, which it tells
                writing.stdin.write(before.encode())
                while block := reading.stdout.read(_BLOCK):
                    writing.stdin.write(block)
                    done += len(block)
                    advance(progress, database, min(done, size), size)
                if reading.wait():
                    # Without the end of its input, the transaction is not committed.
                    writing.kill()
                    raise AtalaiaError(f"pg_dump could not read {database}: {_words(said)}", "restore another backup")
                writing.stdin.write(after.encode())
            with contextlib.suppress(BrokenPipeError):
                writing.stdin.close()
            if writing.wait():
                raise AtalaiaError(
                    f"{database} could not be put into {name} of {cluster.name}: {_words(told)}",
                    "correct that and try again; what had been made was removed",
                )
        finally:
            for process in (reading, writing):
                process.kill()
                process.wait()
                for pipe in (process.stdin, process.stdout):
                    if pipe:
                        with contextlib.suppress(BrokenPipeError):
                            pipe.close()
    return without_roles(missing)


def refuse_older(major: int, database: str, cluster: Cluster) -> None:
    """Raise InputError when a database is of a newer major version than the server that it shall go into."""
    if major > cluster.installation.major:
        raise InputError(
            f"{database} is of PostgreSQL {major}, and {cluster.name} is an older {cluster.installation.major}",
            "take it into a server of the same or a newer version",
        )


def missing_roles(wanted: Iterable[str], cluster: Cluster) -> list[str]:
    """Those roles that a server does not know."""
    return sorted(set(wanted) - _roles(cluster))


def without_roles(missing: Sequence[str]) -> list[str]:
    """What is remarked of them."""
    return [f"there is no role {role} here: what it owned belongs to postgres" for role in missing]


def _roles(cluster: Cluster) -> set[str]:
    with connect(cluster, autocommit=True) as connection:
        return {row[0] for row in connection.execute("SELECT rolname FROM pg_roles").fetchall()}


def _words(file: IO[bytes]) -> str:
    file.seek(0)
    lines = file.read(65_536).decode(errors="replace").strip().splitlines()
    told = [line for line in lines if "ERROR" in line or "FATAL" in line or "error:" in line]
    return (told or lines or ["it said nothing"])[0]
