"""A logical backup -> a server of ours that is being filled: globals, databases, schema, rows, indexes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql

from atalaia.backup.logical import toc as tocs
from atalaia.backup.logical.archive import Archive
from atalaia.backup.logical.contents import FRAME, OWN
from atalaia.backup.logical.copying import Copying, file_number
from atalaia.backup.logical.partial import absent_schemas, hanging, listing
from atalaia.backup.logical.progressed import Anew, Progressed
from atalaia.backup.logical.sessions import Refused, execute, judged, pg_restore, session
from atalaia.backup.logical.toc import Toc, printable
from atalaia.backup.model import Progress, advance
from atalaia.backup.physical.journal import Journal
from atalaia.backup.plain.load import psql
from atalaia.backup.restoring.toc import Entry, quoted
from atalaia.postgres.cluster import Cluster

_ATTACHED = ("ACL", "COMMENT", "SECURITY LABEL")


@dataclass(slots=True)
class Counter:
    """Bytes that were read of a backup, for the progress."""

    progress: Progress
    what: str
    total: int
    done: int = 0

    def __call__(self, count: int) -> None:
        """Some more."""
        self.done += count
        advance(self.progress, self.what, self.done, self.total)


def load(
    archive: Archive,
    cluster: Cluster,
    place: Path,
    progress: Progress,
    *,
    jobs: int = 2,
    only: tuple[str, ...] = (),
    journal: Journal | None = None,
    crashed: bool = False,
) -> float:
    """Restore everything, or `only` some databases, into a new, running, private server; seconds that it took.

    With a `journal` that has notes it goes on; it raises Anew when it cannot. `crashed`: what it goes on with was not
    shut down in order, so that unlogged tables are empty.
    Raises Refused when the backup does not restore, Untested when the machine is in the way, Damaged, PlaceError.
    """
    began = time.monotonic()
    chosen = tuple(name for name in archive.folders if not only or name in only)
    counter = Counter(progress, "restoring", archive.total(chosen))
    if not (journal and journal.done):
        _, said = psql(iter([archive.globals()]), cluster)
        if said:
            raise Refused(f"psql could not restore the roles: {said}", "restore another backup")
        _flush(cluster, "postgres")
    for name in chosen:
        number = archive.folders[name]
        progressed = Progressed(journal, number)
        if not progressed.done or (crashed and unlogged(archive, name)):
            _database(archive, name, cluster, place / number, jobs, counter, progressed, crashed)
            _flush(cluster, name)
            progressed.finish()
    return time.monotonic() - began


def _database(
    archive: Archive,
    name: str,
    cluster: Cluster,
    folder: Path,
    jobs: int,
    counter: Callable[[int], None],
    progressed: Progressed,
    crashed: bool,
) -> None:
    contents = _contents(archive, name, folder)
    copying = Copying(archive, name, contents, cluster, name, counter)
    if not (progressed.loading and copying.repeatable):
        _schema(cluster, name, contents, folder, progressed)
    kept = progressed.tables() - (_unlogged(contents) if crashed else frozenset())
    copying.load(contents.entries, jobs, done=kept, mark=progressed.table)
    progressed.post()
    _finish(cluster, name, contents, folder, jobs)


def load_as(
    archive: Archive, name: str, cluster: Cluster, new: str, folder: Path, jobs: int, progress: Progress
) -> None:
    """Restore a database's objects and rows into `new` of a running server, which is empty and nobody else uses.

    Its roles must be there; tablespaces need not. Raises as `load` does.
    """
    contents = _contents(archive, name, folder)
    copying = Copying(archive, name, contents, cluster, new, Counter(progress, name, archive.total((name,))))
    anywhere = ["--no-tablespaces"]
    _make(cluster, new, contents, folder, anywhere)
    copying.load(contents.entries, jobs)
    _finish(cluster, new, contents, folder, jobs, anywhere)


def _contents(archive: Archive, name: str, folder: Path) -> Toc:
    """What a database has, as a directory that pg_restore reads."""
    data = archive.toc(name)
    folder.mkdir(mode=0o700)
    (folder / tocs.NAME).write_bytes(data)
    return tocs.parse(data)


def _schema(cluster: Cluster, name: str, contents: Toc, folder: Path, progressed: Progressed) -> None:
    """Make the database and all that its rows need."""
    if progressed.begun and name in OWN:
        raise Anew(f"{name} was interrupted where it cannot go on", "")
    again = progressed.begun
    progressed.begin()
    try:
        if again:
            with session(cluster, "postgres") as connection:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} (FORCE)").format(sql.Identifier(name)))
        create(cluster, name, contents, existing=name in OWN)
    except psycopg.Error as error:
        raise judged(error, f"the database {name} could not be made") from error
    _make(cluster, name, contents, folder)
    _flush(cluster, name)
    progressed.schema()


def _flush(cluster: Cluster, name: str) -> None:
    """Before it is noted that something is there, it must outlive a kill of the server: commits did not wait for that.

    Raises Untested.
    """
    try:
        with session(cluster, name) as connection:
            connection.execute("SET synchronous_commit = on")
            # A commit waits when its transaction has written something; this does, and changes nothing.
            connection.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'atalaia', '')")
    except psycopg.Error as error:
        raise judged(error, f"what is in {name} could not be made sure") from error


def unlogged(archive: Archive, name: str) -> frozenset[int]:
    """The numbers of the data files of a database's unlogged tables. Raises PlaceError, Damaged."""
    return _unlogged(tocs.parse(archive.toc(name)))


def _unlogged(contents: Toc) -> frozenset[int]:
    names = {(e.schema, e.name) for e in contents.entries if e.definition.startswith("CREATE UNLOGGED TABLE ")}
    return frozenset(file_number(entry) for entry in contents.data if (entry.schema, entry.name) in names)


def _make(cluster: Cluster, name: str, contents: Toc, folder: Path, options: Sequence[str] = ()) -> None:
    """Make in a database all that its rows need."""
    if any(_inside(entry) for entry in contents.entries):
        make_schemas(cluster, name, contents)
        pg_restore(cluster, name, folder, "pre-data", options=options)
    if objects := large_objects(contents):
        (folder / "objects").write_text(listing(objects))
        pg_restore(cluster, name, folder, "data", options=[*options, f"--use-list={folder / 'objects'}"])


def _finish(cluster: Cluster, name: str, contents: Toc, folder: Path, jobs: int, options: Sequence[str] = ()) -> None:
    """Make what is made when the rows are there: indexes, constraints, triggers."""
    chosen = list(options)
    if left := {entry.number for entry in hanging(contents)}:
        (folder / "list").write_text(listing(entry for entry in contents.entries if entry.number not in left))
        chosen.append(f"--use-list={folder / 'list'}")
    if any(_inside(entry) for entry in contents.entries):
        pg_restore(cluster, name, folder, "post-data", jobs, chosen)


def _attached(entry: Entry, what: str) -> bool:
    return entry.kind in _ATTACHED and entry.name.startswith(what)


def create(cluster: Cluster, name: str, contents: Toc, *, existing: bool = False) -> None:
    """Make a database with its owner, settings and privileges. Raises psycopg.Error."""
    with session(cluster, "postgres", contents) as connection:
        for entry in contents.entries:
            if entry.kind == "DATABASE":
                if not existing:
                    execute(connection, entry.definition)
                if entry.owner:
                    owner = printable(entry.owner)
                    connection.execute(
                        sql.SQL("ALTER DATABASE {} OWNER TO {}").format(sql.Identifier(name), sql.Identifier(owner))
                    )
            elif entry.kind == "DATABASE PROPERTIES" or (
                entry.kind in _ATTACHED and entry.name.startswith("DATABASE ")
            ):
                execute(connection, entry.definition)


def _inside(entry: Entry) -> bool:
    """Whether it is an object of the database, not the database itself."""
    return not (entry.kind in FRAME or entry.kind.startswith("DATABASE") or _attached(entry, "DATABASE "))


def large_objects(contents: Toc) -> list[Entry]:
    """What makes large objects, empty, with their owners, privileges and comments."""
    return [
        entry
        for entry in contents.entries
        if entry.kind in ("BLOB", "BLOB METADATA")
        or (entry.kind in _ATTACHED and entry.name.startswith("LARGE OBJECT"))
    ]


def make_schemas(cluster: Cluster, name: str, contents: Toc) -> None:
    """Make the schemas that a dump of single tables needs and does not have. Raises Refused, Untested."""
    try:
        with session(cluster, name, contents) as connection:
            for schema in absent_schemas(contents):
                execute(connection, f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
    except psycopg.Error as error:
        raise judged(error, f"the schemas of {name} could not be made") from error
