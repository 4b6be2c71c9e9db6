"""pg_dumpall -> a member of a backup, read while it streams."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from atalaia.backup.model import logfmt
from atalaia.backup.plain.contents import CLOSING, Contents, Reader
from atalaia.backup.plain.head import Head, tolerant
from atalaia.backup.vault.writer import MemberWriter, Writer
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import SUPERUSER, Cluster
from atalaia.postgres.connect import environment_variables
from atalaia.postgres.tools import variables

BLOCK = 1 << 20
LOCK_WAIT = 300_000  # ms; a table locked for longer fails the dump instead of letting it hang unseen
ATTEMPTS = 10  # a DROP must come in the moment between list and lock of one database, each time anew
_DROPPED = re.compile(r'relation ".*" does not exist|could not open relation with OID|cache lookup failed for')
_SAID_LIMIT = 65_536
_log = logging.getLogger("atalaia.backup")


def write(cluster: Cluster, writer: Writer, name: str) -> tuple[Contents, str]:
    """Dump all of a server into a member; what is in it, and pg_dumpall's warnings.

    It is done anew, from an empty backup, when a DROP came between pg_dump's list of tables and its locks.
    Raises AtalaiaError with pg_dumpall's own words.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _write(cluster, writer.member(name))
        except AtalaiaError as error:
            if attempt == ATTEMPTS or not _DROPPED.search(str(error)):
                raise
            _log.warning(logfmt("backup_again", server=cluster.name, attempt=attempt, problem=error.what))
            writer.restart()
    raise AssertionError


def _write(cluster: Cluster, member: MemberWriter) -> tuple[Contents, str]:
    reader = Reader()
    head = Head(tolerant(SUPERUSER))
    with dumping(cluster) as (blocks, outcome):
        for block in _with_head(blocks, head):
            reader.feed(block)
            member.write(block)
        said = outcome()
    contents = reader.contents
    if not contents.whole:
        raise AtalaiaError(
            f"the dump of {cluster.name} is not whole: its closing line, {CLOSING.decode()!r}, is missing",
            "no backup was made; try again, and see the server's log",
        )
    return contents, said


def _with_head(blocks: Iterator[bytes], head: Head) -> Iterator[bytes]:
    for block in blocks:
        if passed := head.feed(block):
            yield passed
    if rest := head.finish():
        yield rest


@contextlib.contextmanager
def dumping(cluster: Cluster) -> Iterator[tuple[Iterator[bytes], Outcome]]:
    """Run pg_dumpall: its output in blocks, and a function that waits for its end and returns its warnings.

    On the way out all its processes are ended. It writes times in UTC and bytea as hex, whatever the server's
    settings, so that two dumps of the same data are alike.
    """
    with tempfile.TemporaryFile() as said:
        try:
            process = subprocess.Popen(
                [
                    cluster.installation.program("pg_dumpall"),
                    "--no-password",
                    f"--lock-wait-timeout={LOCK_WAIT}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=said,
                cwd="/",
                env=variables(environment_variables(cluster) | {"PGTZ": "UTC", "PGOPTIONS": "-c bytea_output=hex"}),
                start_new_session=True,  # it starts a pg_dump for each database: all are ended as one group
            )
        except OSError as error:
            raise AtalaiaError(
                f"pg_dumpall could not be started: {error}", "`atalaia doctor` checks what is needed"
            ) from error
        assert process.stdout
        try:
            yield _blocks(process), Outcome(cluster, process, said)
        finally:
            if process.poll() is None or process.returncode != 0:
                _end(process)
            process.stdout.close()
            process.wait()


def _blocks(process: subprocess.Popen[bytes]) -> Iterator[bytes]:
    assert process.stdout
    descriptor = process.stdout.fileno()
    with contextlib.suppress(OSError):  # without it the pipe is only slower
        fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, BLOCK)
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    ended = os.pidfd_open(process.pid)
    poller.register(ended, select.POLLIN)
    try:
        while True:
            ready = {number for number, _ in poller.poll()}
            if descriptor in ready:
                if not (block := os.read(descriptor, BLOCK)):
                    return
                yield block
            elif process.poll():
                # Killed: its pg_dump would write on, or wait for a lock, for what cannot become whole any
                # more.
                return
            else:
                poller.unregister(ended)
    finally:
        os.close(ended)


def _end(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How pg_dumpall has ended; call it after the last block."""

    cluster: Cluster
    process: subprocess.Popen[bytes]
    said: IO[bytes]

    def __call__(self) -> str:
        """Its warnings. Raises AtalaiaError when its exit status is not 0, or it was killed."""
        status = self.process.wait()
        self.said.seek(0)
        text = self.said.read(_SAID_LIMIT).decode(errors="replace").strip()
        if status:
            how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
            words = "\n    ".join(["", *text.splitlines()[:10]]) if text else ""
            raise AtalaiaError(
                f"pg_dumpall of {self.cluster.name} {how}; no backup was made{words}",
                f"the server's own log is in {self.cluster.log}",
            )
        return text
