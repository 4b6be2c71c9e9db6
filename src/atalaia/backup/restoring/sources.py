"""Where a selection is taken from: a running copy of the server, or the members of a logical backup."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from psycopg import sql

from atalaia.backup.restoring import toc
from atalaia.backup.restoring.toc import Entry
from atalaia.environment.errors import AtalaiaError, InputError
from atalaia.postgres.binaries import Installation
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import connect, environment_variables
from atalaia.postgres.tools import run, variables

_BLOCK = 1 << 20


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of a table: the COPY statement that takes them, their text in blocks, its bytes where known."""

    statement: str
    blocks: Iterator[bytes]
    size: int = 0


class Source(Protocol):
    """One database to take from. `entries` are all its objects, `roles` all roles of its server."""

    entries: Sequence[Entry]
    roles: Sequence[str]

    def script(self, entries: Sequence[Entry], section: str = "") -> str:
        """The SQL that makes these objects, of a section (pre-data, post-data) only when one is given."""

    def rows(self, table: Entry) -> Rows | None:
        """The rows of a TABLE; None when it keeps none itself (partitioned)."""

    def value(self, sequence: Entry) -> str:
        """The SQL that sets a sequence as it was."""


def scripted(installation: Installation, folder: Path, entries: Sequence[Entry], section: str = "") -> str:
    """What pg_restore writes for some objects of a directory that pg_dump -Fd made (toc.dat is enough)."""
    if not entries:
        return ""
    with tempfile.NamedTemporaryFile("w", suffix=".list") as listed:
        listed.write("".join(f"{entry.number};\n" for entry in entries))
        listed.flush()
        arguments: list[str | Path] = [
            installation.program("pg_restore"),
            "--file=-",
            "--no-tablespaces",
            f"--use-list={listed.name}",
        ]
        arguments += [*([f"--section={section}"] if section else []), folder]
        # As bytes: a function's body or an enum's label may hold line ends of any sort.
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, env=variables(), check=False)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()
        raise AtalaiaError(f"pg_restore could not write the definitions: {said}", "use another backup")
    return without_meta(done.stdout.decode(errors="surrogateescape"))


def without_meta(text: str) -> str:
    r"""pg_restore's script without the two lines that only psql understands: \restrict and \unrestrict."""
    lines = text.split("\n")
    for position in (*range(min(20, len(lines))), *range(max(0, len(lines) - 20), len(lines))):
        if lines[position].startswith(("\\restrict ", "\\unrestrict ")):
            lines[position] = ""
    return "\n".join(lines)


class Running:
    """A database of a running server that is ours alone, such as a temporary one with a restored backup."""

    def __init__(self, cluster: Cluster, database: str, folder: Path) -> None:
        """Write its table of contents into `folder`, which is new. Raises InputError when there is no such database."""
        self._cluster, self._database, self._folder = cluster, database, folder
        with connect(cluster, autocommit=True) as connection:
            known = [row[0] for row in connection.execute("SELECT datname FROM pg_database ORDER BY 1").fetchall()]
            if database not in known:
                raise InputError(f"there is no database {database!r} in it", f"there are: {', '.join(known)}")
            self.roles: Sequence[str] = [
                row[0] for row in connection.execute("SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_'").fetchall()
            ]
        reached = environment_variables(cluster) | {"PGDATABASE": database, "PGCLIENTENCODING": "UTF8"}
        self._environment = variables(reached)
        done = run(
            [cluster.installation.program("pg_dump"), "--format=directory", "--schema-only", f"--file={folder}"],
            extra=reached,
            seconds=86_400,
        )
        if done.returncode:
            raise AtalaiaError(f"pg_dump could not read {database}: {done.stderr.strip()}", "restore the whole server")
        path = folder / "toc.dat"
        self.entries: Sequence[Entry] = toc.read(path.read_bytes(), str(path))

    def script(self, entries: Sequence[Entry], section: str = "") -> str:
        """The SQL that makes these objects."""
        return scripted(self._cluster.installation, self._folder, entries, section)

    def rows(self, table: Entry) -> Rows | None:
        """The rows of a table, as psql copies them out."""
        with connect(self._cluster, self._database, autocommit=True) as connection:
            found = connection.execute(
                "SELECT pg_relation_size(c.oid),"
                "       array_remove(array_agg(quote_ident(a.attname) ORDER BY a.attnum), NULL)"
                "  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_attribute a ON"
                "   a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''"
                " WHERE n.nspname = %s AND c.relname = %s AND c.relkind = 'r' GROUP BY c.oid",
                (table.schema, table.name),
            ).fetchone()
        if found is None:
            return None
        name = f"{toc.quoted(table.schema)}.{toc.quoted(table.name)}"
        columns = f" ({', '.join(found[1])})" if found[1] else ""
        return Rows(f"COPY {name}{columns} FROM STDIN", self._copied(f"COPY {name}{columns} TO STDOUT"), found[0])

    def value(self, sequence: Entry) -> str:
        """The SQL that sets a sequence as it is."""
        name = sql.Identifier(sequence.schema, sequence.name)
        with connect(self._cluster, self._database, autocommit=True) as connection:
            found = connection.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(name)).fetchone()
            assert found
            literal = sql.Literal(name.as_string(connection))
            statement = sql.SQL("SELECT pg_catalog.setval({}, {}, {})").format(literal, found[0], found[1])
            return statement.as_string(connection)

    def _copied(self, statement: str) -> Iterator[bytes]:
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(
                [
                    self._cluster.installation.program("psql"),
                    *("--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1", f"--command={statement}"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd="/",
                env=self._environment,
                start_new_session=True,
            )
            assert process.stdout
            try:
                while block := process.stdout.read(_BLOCK):
                    yield block
                code = process.wait()
            finally:
                process.stdout.close()
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                process.wait()
            said.seek(0)
            if code:
                words = said.read(4096).decode(errors="replace").strip()
                raise AtalaiaError(f"rows could not be read: {words}", "restore another backup")
