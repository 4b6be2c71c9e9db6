"""pg_dumpall -> repository: compressed, checksummed, read while it streams, renamed only when it is whole."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import cramjam

from atalaia.backup.contents import CLOSING, Contents, Reader
from atalaia.backup.head import Head, tolerant
from atalaia.backup.model import logfmt
from atalaia.environment.errors import AtalaiaError
from atalaia.environment.state import sync_directory
from atalaia.postgres.cluster import SUPERUSER, Cluster
from atalaia.postgres.connect import environment_variables
from atalaia.postgres.tools import variables

BLOCK = 1 << 20
LEVEL = 3
LOCK_WAIT = 300_000  # ms; a table locked for longer fails the dump instead of letting it hang unseen
ATTEMPTS = 10  # a DROP must come in the moment between list and lock of one database, each time anew
_DROPPED = re.compile(r'relation ".*" does not exist|could not open relation with OID|cache lookup failed for')
_SAID_LIMIT = 65_536
_log = logging.getLogger("atalaia.backup")


@dataclass(frozen=True, slots=True)
class Written:
    """A dump on disk: bytes of the file and of its text, the file's SHA-256, what is in it, what pg_dumpall
    said.
    """

    size: int
    raw_size: int
    sha256: str
    contents: Contents
    said: str


def write(cluster: Cluster, path: Path) -> Written:
    """Dump all of a server to `path` (zstd, mode 0600), which has its name only once it is whole and on disk.

    The bytes go to `path`.partial, removed on any failure. Raises AtalaiaError with pg_dumpall's own words.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        written = _patiently(cluster, partial)
        partial.rename(path)
        sync_directory(path.parent)
    except OSError as error:
        raise AtalaiaError(
            f"the dump of {cluster.name} could not be written to {partial}: {error.strerror or error}",
            "make room there, or give another `repository` in [backups]; no backup was made",
        ) from error
    finally:
        partial.unlink(missing_ok=True)
    return written


def _patiently(cluster: Cluster, partial: Path) -> Written:
    """Dump, and again from nothing when a DROP came between pg_dump's list of tables and its locks."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _write(cluster, partial)
        except AtalaiaError as error:
            if attempt == ATTEMPTS or not _DROPPED.search(str(error)):
                raise
            _log.warning(logfmt("backup_again", server=cluster.name, attempt=attempt, problem=error.what))
            partial.unlink(missing_ok=True)
    raise AssertionError


def _write(cluster: Cluster, partial: Path) -> Written:
    reader = Reader()
    head = Head(tolerant(SUPERUSER))
    digest = hashlib.sha256()
    compressor = cramjam.zstd.Compressor(LEVEL)
    size = raw_size = 0
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb", buffering=0) as file, dumping(cluster) as (blocks, outcome):
        for block in _with_head(blocks, head):
            reader.feed(block)
            raw_size += len(block)
            compressor.compress(block)
            size += _put(file, digest, bytes(compressor.flush()))
        size += _put(file, digest, bytes(compressor.finish()))
        os.fsync(file.fileno())
        said = outcome()
    contents = reader.contents
    if not contents.whole:
        raise AtalaiaError(
            f"the dump of {cluster.name} is not whole: its closing line, {CLOSING.decode()!r}, is missing",
            "no backup was made; try again, and see the server's log",
        )
    return Written(size, raw_size, digest.hexdigest(), contents, said)


def _with_head(blocks: Iterator[bytes], head: Head) -> Iterator[bytes]:
    for block in blocks:
        if passed := head.feed(block):
            yield passed
    if rest := head.finish():
        yield rest


def _put(file: IO[bytes], digest: hashlib._Hash, data: bytes) -> int:
    view = memoryview(data)
    while view:
        # An unbuffered write may take only a part, when the disk has room for no more.
        view = view[file.write(view) :]
    digest.update(data)
    return len(data)


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
