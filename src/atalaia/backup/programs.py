"""pg_dump, pg_dumpall and pg_restore as backups run them: ended as a group, with us, and heard out."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import Cluster
from atalaia.postgres.connect import environment_variables
from atalaia.postgres.tools import variables

_SAID_LIMIT = 65_536
# Ends the whole group when we are gone, however that came: a worker may wait for ever for a reader of its pipe.
# The guard holds no output: whoever reads that waits for its end.
_GUARDED = 'exec 3<&0 </dev/null; (read -r line <&3; kill -KILL 0) >/dev/null 2>&1 & exec 3<&-; exec "$@"'
# All that decides how values are written; the server's own settings must not.
OPTIONS = "-c bytea_output=hex -c default_transaction_read_only=off -c statement_timeout=0 -c lock_timeout=0"


def conninfo(database: str) -> str:
    """A database's name as libpq's programs take it safely, whatever is in it."""
    escaped = database.replace("\\", "\\\\").replace("'", "\\'")
    return f"dbname='{escaped}'"


@dataclass(slots=True)
class Program:
    """A program that runs; `said` is its stderr."""

    name: str
    cluster: Cluster
    process: subprocess.Popen[bytes]
    said: IO[bytes]

    def words(self) -> str:
        """What it has said, so far."""
        self.said.seek(0)
        return self.said.read(_SAID_LIMIT).decode(errors="replace").strip()

    def outcome(self) -> str:
        """Wait for its end; its warnings. Raises AtalaiaError with its words when it has failed."""
        status = self.process.wait()
        words = self.words()
        if status:
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            shown = "\n    ".join(["", *words.splitlines()[:10]]) if words else ""
            raise AtalaiaError(
                f"{self.name} of {self.cluster.name} {how}{shown}",
                f"the server's own log is in {self.cluster.log}",
            )
        return words


@contextlib.contextmanager
def running(cluster: Cluster, name: str, arguments: Sequence[str | Path], output: int | IO[bytes]) -> Iterator[Program]:
    """Run one of PostgreSQL's clients on a server; on the way out nothing of it is left running."""
    ours, theirs = os.pipe()  # it closes with us: the guard reads its end
    try:
        with tempfile.TemporaryFile() as said:
            try:
                process = subprocess.Popen(
                    [
                        *("/bin/sh", "-c", _GUARDED, "atalaia"),
                        *(cluster.installation.program(name), "--no-password", *arguments),
                    ],
                    stdin=ours,
                    stdout=output,
                    stderr=said,
                    cwd="/",
                    env=variables(environment_variables(cluster) | {"PGTZ": "UTC", "PGOPTIONS": OPTIONS}),
                    start_new_session=True,  # Ctrl-C is ours to handle
                )
            except OSError as error:
                raise AtalaiaError(
                    f"{name} could not be started: {error}", "`atalaia doctor` checks what is needed"
                ) from error
            try:
                yield Program(name, cluster, process, said)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    finally:
        os.close(ours)
        os.close(theirs)


def output_of(cluster: Cluster, name: str, arguments: Sequence[str | Path]) -> tuple[bytes, str]:
    """Run a client to its end; its output and its warnings. Raises AtalaiaError when it fails."""
    with tempfile.TemporaryFile() as output:
        with running(cluster, name, arguments, output) as program:
            said = program.outcome()
        output.seek(0)
        return output.read(), said


def children(pid: int, name: str) -> set[int]:
    """The children of a process that bear a name."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            before, _, after = (folder / "stat").read_bytes().rpartition(b") ")
        except OSError:
            continue
        if after.split(b" ", 2)[1] == b"%d" % pid and before.partition(b"(")[2] == name.encode()[:15]:
            found.add(int(folder.name))
    return found
