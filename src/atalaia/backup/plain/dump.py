"""pg_dumpall -> a member of a backup, read while it streams."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import select
import subprocess
from collections.abc import Callable, Iterator

from atalaia.backup.model import logfmt
from atalaia.backup.plain.contents import CLOSING, Contents, Reader
from atalaia.backup.plain.head import Head, tolerant
from atalaia.backup.programs import running
from atalaia.backup.vault.writer import MemberWriter, Writer
from atalaia.environment.errors import AtalaiaError
from atalaia.postgres.cluster import SUPERUSER, Cluster

BLOCK = 1 << 20
LOCK_WAIT = 300_000  # ms; a table locked for longer fails the dump instead of letting it hang unseen
ATTEMPTS = 10  # a DROP must come in the moment between list and lock of one database, each time anew
_DROPPED = re.compile(r'relation ".*" does not exist|could not open relation with OID|cache lookup failed for')
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
def dumping(cluster: Cluster) -> Iterator[tuple[Iterator[bytes], Callable[[], str]]]:
    """Run pg_dumpall: its output in blocks, and a function that waits for its end and returns its warnings.

    That one raises AtalaiaError when it has failed. On the way out all its processes are ended. It writes times in UTC
    and bytea as hex, whatever the server's settings, so that two dumps of the same data are alike.
    """
    with running(cluster, "pg_dumpall", [f"--lock-wait-timeout={LOCK_WAIT}"], subprocess.PIPE) as program:
        assert program.process.stdout
        with program.process.stdout:
            yield _blocks(program.process), program.outcome


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
