"""What to type to restore a dump safely: into a new server or a new database, stopping at the first error."""

from __future__ import annotations

import shlex
from pathlib import Path

from atalaia.backup.inspecting.findings import Effect

_READERS = {"": "cat", "gz": "zcat", "zst": "zstd -dc", "xz": "xzcat", "bz2": "bzcat", "lz4": "lz4 -dc"}


def for_text(path: Path, compression: str, scope: str, creates: bool, effect: Effect) -> tuple[str, ...]:
    """For a text dump. `creates`: it makes its database itself."""
    name = shlex.quote(str(path))
    if effect >= Effect.REPAIR:
        return (
            f"atalaia backup inspect {name} --repair repaired.sql --prove",
            *_psql("cat repaired.sql", scope, creates),
        )
    if scope == "cluster":
        # CREATE ROLE of the new server's own superuser is the one error that a whole dump meets.
        return (
            f"atalaia backup inspect {name} --repair repaired.sql   # roles that exist already are no error in it",
            *_psql("cat repaired.sql", scope, creates),
        )
    return _psql(f"{_READERS[compression]} {name}", scope, creates)


def _psql(read: str, scope: str, creates: bool) -> tuple[str, ...]:
    psql = "psql -X -v ON_ERROR_STOP=1"
    if scope == "cluster" or creates:
        return (f"{read} | {psql} -U postgres -d postgres   # -h and -p of a NEW server",)
    return ("createdb -U postgres -T template0 restored", f"{read} | {psql} -U postgres -d restored")


def for_archive(path: Path, effect: Effect) -> tuple[str, ...]:
    """For an archive of pg_dump."""
    name = shlex.quote(str(path))
    if effect is Effect.REPAIR or effect > Effect.UNKNOWN:
        name = "repaired.dump"
    first = (f"atalaia backup inspect {shlex.quote(str(path))} --repair {name}",) if effect is Effect.REPAIR else ()
    return (
        *first,
        "createdb -U postgres -T template0 restored   # in a NEW server",
        f"pg_restore --exit-on-error --no-owner -U postgres -d restored {name}",
    )
